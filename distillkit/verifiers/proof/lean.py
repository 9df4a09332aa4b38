"""Lean 4's text: the candidate gives a proof only, which is put behind our statement; the rest is looked at.

Elaboration reads from top to bottom, so what stands behind the statement cannot change it; words that end the proof
and begin something else are refused, and a second file asks what the theorem rests on. Auxiliary lemmas of the
candidate's are not taken: in front of the statement they could change its notation.
Source: Lean 4 reference, `#print axioms`.
"""

import re
from collections.abc import Collection

STANDARD_AXIOMS = frozenset(("propext", "Classical.choice", "Quot.sound"))
_STATEMENT = re.compile(r"\s*(?:theorem|lemma)\s+(?P<name>[^\s({\[:]+)")
_REFUSED = frozenset(
    """sorry admit axiom constant opaque unsafe partial import namespace section end open export universe variable
    theorem lemma def abbrev example instance structure inductive class deriving attribute macro macro_rules syntax
    notation infix infixl infixr prefix postfix elab elab_rules declare_syntax_cat run_cmd run_tac run_elab run_meta
    initialize builtin_initialize set_option native_decide implemented_by extern mutual noncomputable private protected
    scoped local include omit unseal seal""".split()
)
_LEX = re.compile(
    r"/-|-/|--[^\n]*|(?P<hiding>r#*\"|\"(?!(?:[^\"\\]|\\.)*+\"))|\"(?:[^\"\\]|\\.)*+\"|'(?:[^'\\]|\\.)'"
    r"|#[a-z]\w*|[^\W\d][\w.']*",
    re.DOTALL,
)


def name_of(statement: str) -> str | None:
    """The name in `theorem name ... : type`; None where the text is no such statement."""
    found = _STATEMENT.match(statement)
    return found["name"] if found and ":=" not in statement else None


def refusal(proof: str) -> str | None:
    """The first word of a proof that no honest one needs; None without one."""
    depth = 0
    for token in _LEX.finditer(proof):
        depth += {"/-": 1, "-/": -1}.get(token[0], 0)
        if token["hiding"]:
            return "a raw or open string is refused"  # where it ends is not seen here
        if depth == 0 and (token[0] in _REFUSED or token[0].startswith("#")):
            return f"{token[0]} is refused"
    return None if depth == 0 else "a comment is not closed"


def proof_in(statement: str, candidate: str) -> str:
    """The candidate's proof as it stands behind a statement, from `:=` on; the statement said again is taken off."""
    proof = candidate.strip()
    said, rest = proof.partition(":=")[::2]
    if rest and said.split() == statement.split():
        proof = f":={rest}"
    if proof.startswith(":="):
        return proof
    return (
        f":= {proof}"
        if re.match(r"by\b", proof)
        else ":= by\n" + re.sub("^", "  ", proof, flags=re.MULTILINE)
    )


def compose(preamble: str, statement: str, proof: str) -> dict[str, str]:
    """Answer.lean with our statement and the candidate's proof, and Check.lean that asks what it rests on."""
    return {
        "Answer.lean": f"{preamble}\n\n{statement.rstrip()} {proof}\n",
        "Check.lean": f"import Answer\n#print axioms {name_of(statement)}\n",
    }


def unproved(output: str, axioms: Collection[str]) -> str | None:
    """What Check.lean's output says against the proof; None if nothing."""
    if "does not depend on any axioms" in output:
        return None
    listed = re.search(r"depends on axioms: \[([^\]]*)\]", output)
    if listed is None:
        return "the check gave no answer"
    others = {each.strip() for each in listed[1].split(",")} - STANDARD_AXIOMS - set(axioms)
    return f"rests on the unproved {min(others)}" if others else None
