"""All kinds of verifier. A new one is its file, its name here, and its test."""

from typing import Annotated

from pydantic import Field

from distillkit.verifiers.base import Verifier
from distillkit.verifiers.choice import Choice
from distillkit.verifiers.code import Code
from distillkit.verifiers.command import Command
from distillkit.verifiers.composite import AllOf, AnyOf, Share, Weighted
from distillkit.verifiers.exact import Exact
from distillkit.verifiers.format import Format
from distillkit.verifiers.ifeval import Ifeval
from distillkit.verifiers.judge import Judge
from distillkit.verifiers.logic import Logic
from distillkit.verifiers.majority import Majority
from distillkit.verifiers.math import Math
from distillkit.verifiers.proof import Proof
from distillkit.verifiers.python import Python
from distillkit.verifiers.reward_model import RewardModel
from distillkit.verifiers.sql import Sql

AnyVerifier = Annotated[
    AllOf
    | AnyOf
    | Choice
    | Code
    | Command
    | Exact
    | Format
    | Ifeval
    | Logic
    | Judge
    | Majority
    | Math
    | Proof
    | Python
    | RewardModel
    | Sql
    | Weighted,
    Field(discriminator="kind"),
]

for _holder in (AllOf, AnyOf, Share, Weighted, Majority):  # those that hold verifiers
    _holder.model_rebuild(_types_namespace={"AnyVerifier": AnyVerifier})

KINDS: dict[str, type[Verifier]] = {
    "all_of": AllOf,
    "any_of": AnyOf,
    "choice": Choice,
    "code": Code,
    "command": Command,
    "exact": Exact,
    "format": Format,
    "ifeval": Ifeval,
    "logic": Logic,
    "judge": Judge,
    "majority": Majority,
    "math": Math,
    "proof": Proof,
    "python": Python,
    "reward_model": RewardModel,
    "sql": Sql,
    "weighted": Weighted,
}

__all__ = [
    "KINDS",
    "AllOf",
    "AnyOf",
    "AnyVerifier",
    "Choice",
    "Code",
    "Command",
    "Exact",
    "Format",
    "Ifeval",
    "Judge",
    "Logic",
    "Majority",
    "Math",
    "Proof",
    "Python",
    "RewardModel",
    "Share",
    "Sql",
    "Verifier",
    "Weighted",
]
