"""The chapters of the page, in the order of reading; a run that has nothing for one leaves it out."""

from distillkit.report.chapter import dataset, evaluation, funnel, probe, score, screening, seed, training
from distillkit.report.material import Material
from distillkit.report.section import Section


def sections(material: Material) -> list[Section]:
    """All chapters that have something to show."""
    chapters = (score, evaluation, seed, screening, training, probe, funnel, dataset)
    return [section for chapter in chapters for section in chapter.sections(material) if section]
