"""distillkit: the DeepSeek-R1 method from one YAML file on one machine."""

__version__ = "0.1.0"
