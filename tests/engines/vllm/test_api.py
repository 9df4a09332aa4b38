"""What the adapter takes from vLLM is there in the installed release, and nobody else takes anything."""

import ast
import importlib
import os
from importlib.util import find_spec
from pathlib import Path

import pytest

import distillkit
from distillkit.engines.base import Parameters
from distillkit.engines.vllm import api as vllm_api
from distillkit.errors import MissingError, RecipeError

PACKAGE = Path(distillkit.__file__).parent
installed = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")


def imported(path):
    """(module, name) of everything that a file takes from vLLM when it runs."""
    tree = ast.parse(path.read_text("utf-8"))
    typing = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    return {
        (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and id(node) not in typing
        for alias in node.names
        if (node.module or "").split(".")[0] == "vllm"
    }


def keywords(function):
    """Names that a function of the adapter passes to vLLM's class of the call in it."""
    tree = ast.parse(Path(vllm_api.__file__).read_text("utf-8"))
    body = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == function)
    return {k.arg for node in ast.walk(body) if isinstance(node, ast.Call) for k in node.keywords if k.arg}


@installed
@pytest.mark.vllm
class TestInstalled:
    @pytest.mark.parametrize("name", sorted(imported(Path(vllm_api.__file__))), ids=".".join)
    def test_every_name_is_there(self, name):
        module, attribute = name
        try:
            found = importlib.import_module(f"{module}.{attribute}")
        except ModuleNotFoundError:
            found = vars(importlib.import_module(module)).get(attribute) or importlib.import_module(
                module
            ).__getattr__(attribute)
        assert found is not None

    def test_every_sampling_parameter_is_there(self):
        from vllm import SamplingParams

        passed = keywords("sampling_params")
        assert {"seed", "output_kind", "min_p"} <= passed <= set(SamplingParams.__struct_fields__)

    def test_every_engine_argument_is_there(self):
        from vllm import AsyncEngineArgs

        text = (PACKAGE / "engines" / "vllm" / "__init__.py").read_text("utf-8")
        declared = {
            key.value
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Dict) and any(isinstance(k, ast.Constant) for k in node.keys)
            for key in node.keys
            if isinstance(key, ast.Constant)
        } - {"retry", "engine", "latency_s", "tokenizer"}
        assert {"tensor_parallel_size", "data_parallel_size", "load_format"} <= declared
        assert declared <= set(AsyncEngineArgs.__dataclass_fields__)

    def test_the_sampling_parameters_say_what_ours_say(self):
        ours = Parameters(max_tokens=9, temperature=0.5, top_p=0.9, top_k=7, min_p=0.1, stop=("x",))
        theirs = vllm_api.sampling_params(ours, seed=3, limit=5)
        assert (theirs.max_tokens, theirs.seed, theirs.n) == (5, 3, 1)
        assert (theirs.temperature, theirs.top_p, theirs.top_k, theirs.min_p) == (0.5, 0.9, 7, 0.1)
        assert theirs.stop == ["x"] and theirs.detokenize and theirs.include_stop_str_in_output
        assert not theirs.skip_special_tokens

    def test_an_unknown_argument_is_refused_with_the_nearest_name(self):
        with pytest.raises(RecipeError, match=r"engine_args\.quantisation: .* did you mean quantization\?"):
            vllm_api.engine_args({}, {"quantisation": "awq"})
        with pytest.raises(RecipeError, match=r"engine_args\.zzzz: .*no such argument$"):
            vllm_api.engine_args({}, {"zzzz": 1})

    def test_a_value_that_vllm_does_not_take_is_one_line(self):
        with pytest.raises(RecipeError, match=r"^engine_args: vLLM refuses: .+$"):
            vllm_api.engine_args({}, {"compilation_config": {"mode": "no such mode"}})

    def test_this_build_is_in_range_and_has_memory(self):
        build = vllm_api.require()
        free, total = vllm_api.device_memory(build.on_cpu)
        assert 0 < free < total


def test_only_the_adapter_knows_vllms_names():
    takers = {path for path in (PACKAGE / "engines").rglob("*.py") if imported(path)}
    assert takers == {PACKAGE / "engines" / "vllm" / "api.py"}


@pytest.mark.parametrize("version", ["0.22.0", "0.22.1", "0.26.0", "0.31.0+cpu", "0.31.1.dev3", "dev"])
def test_a_version_in_range_is_taken(version):
    vllm_api.require_version(version)


@pytest.mark.parametrize("version", ["0.21.9", "0.9.2", "0.32.0", "1.0.0"])
def test_another_is_refused_with_the_command(version):
    with pytest.raises(MissingError, match=rf"vLLM {version} .*pip install 'vllm>=0\.22,<0\.32'"):
        vllm_api.require_version(version)


def test_the_environment_of_the_start_is_given_back(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("VLLM_ENABLE_V1_MULTIPROCESSING", raising=False)
    with vllm_api.cpu_environment():
        assert os.environ["OMP_NUM_THREADS"] == "3"
        assert os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
    assert "VLLM_ENABLE_V1_MULTIPROCESSING" not in os.environ
    assert os.environ["OMP_NUM_THREADS"] == "3"
