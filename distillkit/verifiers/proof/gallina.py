"""Coq's text: cut into sentences, searched for what no honest proof needs, and put together so that it is pinned.

The statement is elaborated in a file of our own (Given.v) before the candidate's text is read (Answer.v); a third file
(Check.v) takes its type from there, so that notations, flags and names of the candidate's cannot touch it, and asks
the kernel what the candidate's theorem of that type rests on.
Source: Coq 8.16 reference manual, "Basic notions and conventions", "Print Assumptions".
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

PINNED = "the_statement"
_LEX = re.compile(
    r'(?P<open>\(\*)|(?P<close>\*\))|(?P<string>"(?:[^"]|"")*"|")|(?P<stop>\.{1,3}(?=\s|\Z))', re.DOTALL
)


class UnreadableError(ValueError):
    """The text does not end where it should: an open comment or string, a sentence without a full stop."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence: its `text` as written, its `code` without comments (strings emptied), its first command."""

    text: str
    code: str

    @property
    def words(self) -> list[str]:
        """Its words from its command on: bullets, braces, selectors, attributes and modifiers are stepped over."""
        words = re.findall(r"[^\W\d][\w']*", self.code[_prefix_end(self.code) :])
        while words and words[0] in _MODIFIERS:
            words.pop(0)
        return words


_PREFIX = re.compile(r"(?:\s|[-+*{}!]|\[\s*[\w']+\s*\]\s*:|all\s*:|par\s*:|\d[\d\s,-]*:|#\[[^\]]*\])+")
_MODIFIERS = frozenset(
    "Local Global Polymorphic Monomorphic Cumulative NonCumulative Private Program Time".split()
)


def _prefix_end(code: str) -> int:
    found = _PREFIX.match(code)
    return found.end() if found else 0


def sentences(text: str) -> list[Sentence]:
    """The sentences of a text; raises UnreadableError where it is cut off."""
    found: list[Sentence] = []
    start, depth, code, seen = 0, 0, list[str](), 0
    for token in _LEX.finditer(text):
        if depth == 0:
            code.append(text[seen : token.start()])
        seen = token.end()
        if token["string"] == '"':
            raise UnreadableError("a string is not closed")
        if token["open"]:
            depth += 1
        elif token["close"]:
            depth = max(0, depth - 1)
        elif depth == 0:
            code.append('""' if token["string"] else "")
            if token["stop"] and token["stop"] != "..":
                found.append(Sentence(text[start : token.end()].strip(), "".join(code).strip()))
                start, code = token.end(), []
        if depth == 0 and token["close"]:
            code.append(" ")
    if depth:
        raise UnreadableError("a comment is not closed")
    if rest := "".join([*code, text[seen:]]).strip():
        if _prefix_end(rest) < len(rest):
            raise UnreadableError(f"no full stop behind {' '.join(rest.split())[-40:]!r}")
        found.append(Sentence(text[start:].strip(), rest))
    return found


_GOALS = frozenset("Theorem Lemma Corollary Proposition Fact Remark Example Definition Instance".split())
_ENDS = frozenset(("Qed", "Defined"))
_ALLOWED = (
    _GOALS
    | _ENDS
    | frozenset(
        """Proof Goal Fixpoint CoFixpoint Inductive CoInductive Variant Record Structure Class Existing Let Section
        End Module Include Variable Variables Context Hypothesis Hypotheses Notation Infix Reserved Open Close Delimit
        Undelimit Bind Arguments Implicit Generalizable Coercion Canonical Import Export Require From Ltac Ltac2 Tactic
        Hint Create Remove Set Unset Test Scheme Combined Function Functional Equations Derive Next Obligation
        Obligations Solve Preterm Check Print Compute Eval Search SearchPattern SearchRewrite About Locate Show Unfold
        Opaque Transparent Strategy Number String Typeclasses Identity SubClass Unshelve Optimize Guarded Focus Unfocus
        Add Declare""".split()
    )
)
_CHEATS = frozenset(
    """Admitted Admit Axiom Axioms Parameter Parameters Conjecture Conjectures Abort Primitive Register Symbol
    Rewrite""".split()
)
_REACHING = frozenset(
    "Load Redirect Cd Pwd Drop Quit Extraction Recursive Separate Dump Profile Comments".split()
)
_SECOND = {
    "Add": frozenset("Ring Field Parametric Morphism Relation Setoid Zify".split()),
    "Declare": frozenset("Scope Custom Left Right Reduction".split()),
}
"""Of these commands only some are harmless: others load plugins, add folders, or declare without proof."""
_WRITERS = frozenset(("Print", "Show", "Set"))
"""What can write a file where a name of one is given (Print Universes, Set NativeCompute Profile Filename)."""


def refusal(found: Collection[Sentence]) -> tuple[str, str] | None:
    """(reason, what) of the first command that no honest proof needs; None if there is none.

    A command starts with a capital, a tactic does not; commands that are not known to be harmless are refused.
    """
    for sentence in found:
        words = sentence.words
        while words[:1] and words[0] in ("Fail", "Succeed"):
            words.pop(0)
        first, second, *_ = [*words, "", ""]
        if "bypass_check" in sentence.code or {"Checking", "Kernel"} & set(words[1:]):
            return "wrong", f"{' '.join(sentence.code.split())[:60]} is refused"
        if first in _CHEATS:
            return "wrong", f"{first} is refused"
        if first[:1].isupper() and (first not in _ALLOWED or second not in _SECOND.get(first, (second,))):
            reaching = first in _REACHING or first in _SECOND
            return "sandbox_denied" if reaching else "wrong", f"{first} {second}".rstrip() + " is refused"
        if first in _WRITERS and ('""' in sentence.code or "Filename" in words):
            return "sandbox_denied", f"{first} into a file is refused"
    return None


def name_of(statement: str) -> str:
    """The name that a statement gives its theorem.

    Raises:
        UnreadableError: it is not one sentence `Theorem name ... .` without a proof.
    """
    try:
        [sentence] = sentences(statement)
    except ValueError as error:
        raise UnreadableError(
            str(error) if isinstance(error, UnreadableError) else "not one sentence"
        ) from None
    words = sentence.words
    if len(words) < 2 or words[0] not in _GOALS or ":=" in sentence.code or refusal([sentence]):
        raise UnreadableError("not a statement `Theorem name : ... .` without a proof")
    return words[1]


_SETTINGS = frozenset("Import Export Open Close Set Unset Local Generalizable".split())


def compose(preamble: str, statement: str, candidate: str, root: str) -> dict[str, str]:
    """The three files, in the order in which they are compiled as modules of the library `root`.

    What a preamble requires, opens and sets holds for one file only, so the candidate's file says it again; what it
    defines is imported, so that both speak of the same thing. Sentences that the candidate repeats from the preamble
    are dropped.
    """
    name = name_of(statement)
    given = sentences(preamble)
    required = [each for each in given if each.words[:1] in (["Require"], ["From"])]
    settings = [each for each in given if each.words[:1] and each.words[0] in _SETTINGS]
    ours = {" ".join(each.code.split()) for each in given if each not in required and each not in settings}
    theirs = [each for each in sentences(candidate) if " ".join(each.code.split()) not in ours]
    if not any(each.words[1:2] == [name] and each.words[0] in _GOALS for each in theirs):
        theirs = _as_proof(statement, theirs)
    anonymous = re.sub(rf"(?<=\s){re.escape(name)}(?![\w'])", PINNED, statement, count=1)
    head = [
        *(each.text for each in required),
        f"Require Import {root}.Given.",
        *(each.text for each in settings),
    ]
    return {
        "Given.v": f"{preamble}\n{anonymous}\nProof. Admitted.\n",
        "Answer.v": "\n".join([*head, *(each.text for each in theirs)]) + "\n",
        "Check.v": f"""Require {root}.Given.
Definition pinned : Type := ltac:(let t := type of {root}.Given.{PINNED} in exact t).
Require {root}.Answer.
Definition checked : pinned := @{root}.Answer.{name}.
Print Assumptions checked.
Print Libraries.
""",
    }


def _as_proof(statement: str, script: list[Sentence]) -> list[Sentence]:
    """A script under our statement, ended where it does not end itself."""
    ended = bool(script) and not _ENDS.isdisjoint(script[-1].words[:1])
    return [Sentence(statement, statement), *script, *([] if ended else [Sentence("Qed.", "Qed.")])]


def unproved(output: str, root: str, axioms: Collection[str], libraries: Collection[str]) -> str | None:
    """What Check.v's output says against the proof: an axiom, an unsafe flag, a library; None if nothing.

    Axioms of the preamble are the author's own. `axioms` are allowed by the names that Coq prints them under.
    """
    said, listed, loaded = output.rpartition("Loaded library files:")
    if not listed:
        return "the check gave no answer"
    for library in re.findall(r"^\s+([\w.']+)\s*$", loaded, re.MULTILINE):
        if library.split(".")[0] not in {root, *libraries}:
            return f"library {library} is refused"
    if said.strip() == "Closed under the global context":
        return None
    for line in said.splitlines():
        if line.strip() in ("", "Axioms:") or line[0].isspace():
            continue
        named = re.match(r"([\w.']+) :", line) or re.fullmatch(r"([\w.']+)", line)
        if named is None:
            return line.strip()[:200]
        if named[1] in axioms or (named[1].startswith("Given.") and named[1] != f"Given.{PINNED}"):
            continue
        return f"rests on the unproved {named[1]}"
    return None
