"""Proofs by the real Coq: true ones pass however they are written, and none of the known cheats does."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillkit.errors import MissingError
from distillkit.trace import Trace, Verdict
from distillkit.verifiers import Proof
from distillkit.verifiers.proof import gallina, lean
from distillkit.verifiers.proof.gallina import UnreadableError, compose, name_of, refusal, sentences

needs_coq = pytest.mark.skipif(
    not (shutil.which("coqc") and shutil.which("bwrap")),
    reason="needs coqc and bwrap (apt install coq bubblewrap)",
)

ADD_0 = {"statement": "Theorem add_0 : forall n : nat, n + 0 = n."}
FALSE = {"statement": "Theorem add_0 : forall n : nat, n + 1 = n."}
TWICE = {
    "preamble": 'Require Import Arith.\nDefinition twice (n : nat) := n + n.\nNotation "n !!" := (twice n) (at level 2).',
    "statement": "Lemma twice_2 (n : nat) : n !! = 2 * n.",
}
SCOPED = {
    "preamble": "Require Import ZArith. Open Scope Z_scope. Set Implicit Arguments.",
    "statement": "Theorem square x : 0 <= x * x.",
}
TREE = {
    "preamble": "Inductive tree := leaf | node (l r : tree).\n"
    "Fixpoint mirror t := match t with leaf => leaf | node l r => node (mirror r) (mirror l) end.",
    "statement": "Theorem mirror_twice : forall t, mirror (mirror t) = t.",
}
ASSUMED = {
    "preamble": "Section Nothing. End Nothing.\nParameter P : nat -> Prop.\nAxiom P_all : forall n, P n.",
    "statement": "Theorem P_5 : P 5.",
}
CLASSIC = {"preamble": "Require Import Classical.", "statement": "Theorem em : forall p : Prop, p \\/ ~ p."}


@pytest.fixture(scope="module")
def verifier() -> Iterator[Proof]:
    with Proof(workers=1, cpu_s=20) as proof:
        yield proof


def grade(verifier: Proof, candidate: str, reference: object) -> Verdict:
    response = f"Here it is:\n```coq\n{candidate}\n```\n"
    return verifier.grade(Trace("p", [], response, "", response, reference=reference, finish_reason="stop"))


@needs_coq
@pytest.mark.parametrize(
    ("reference", "proof"),
    [
        (ADD_0, "Proof. induction n as [|n IH]; simpl; auto. Qed."),
        (ADD_0, "induction n; simpl; auto."),
        (ADD_0, "intros n.\ninduction n.\n- reflexivity.\n- simpl. rewrite IHn. reflexivity.\nDefined."),
        (ADD_0, "Proof. (* by Axiom? no: \"Admitted.\" *) intros; symmetry; apply plus_n_O. Qed."),
        (ADD_0, "Require Import Lia.\nTheorem add_0 : forall n : nat, n + 0 = n.\nProof. intros. lia. Qed."),
        (ADD_0, "Definition add_0 n : n + 0 = n := eq_sym (plus_n_O n)."),
        (
            ADD_0,
            "Lemma step n : n + 0 = n -> S n + 0 = S n. Proof. intros H; simpl; now rewrite H. Qed.\n"
            "Theorem add_0 : forall m : nat, m + 0 = m. Proof. induction m. { auto. } { now apply step. } Qed.",
        ),
        (ADD_0, "Ltac go := induction 1 || auto.\nTheorem add_0 n : n + 0 = n. Proof. now induction n. Qed. Print add_0."),
        (TWICE, "Proof. unfold twice. simpl. now rewrite Nat.add_0_r. Qed."),
        (TWICE, "Require Import Lia.\nDefinition twice (n : nat) := n + n.\nLemma twice_2 n : n !! = 2 * n. unfold twice. lia. Qed."),
        (SCOPED, "apply Z.square_nonneg."),
        (SCOPED, "Require Import Lia. Theorem square x : 0 <= x * x. Proof. nia. Qed."),
        (TREE, "induction t as [|l IHl r IHr]; simpl; [reflexivity|]. rewrite IHl, IHr. reflexivity."),
        (TREE, "Proof. fix go 1. intros [|l r]. 1: reflexivity. simpl. rewrite (go l), (go r). reflexivity. Qed."),
        (ASSUMED, "exact (P_all 5)."),
        (TWICE, "Section S. Variable n : nat. Lemma h : twice n = n + n. Proof. reflexivity. Qed. End S.\n"
                "Lemma twice_2 (n : nat) : twice n = 2 * n. Proof. rewrite h; simpl; now rewrite Nat.add_0_r. Qed."),
    ],
)  # fmt: skip
def test_true_proofs(verifier: Proof, reference: dict[str, str], proof: str) -> None:
    verdict = grade(verifier, proof, reference)
    assert (verdict.reason, verdict.detail) == ("correct", {})
    assert verdict.telemetry == {"sandbox": "bubblewrap"}


CHEATS = {
    "Proof. Admitted.": "Admitted is refused",
    "Proof. intros. - Admitted.": "Admitted is refused",
    "Proof. intros. admit. Qed.": "given up goals",
    "Proof. intros. give_up. Qed.": "given up goals",
    "Proof. intros. destruct n. Qed.": "incomplete proof",
    "Theorem add_0 : forall n : nat, n + 1 = n. Abort.": "Abort is refused",
    "Axiom a : forall n : nat, n + 1 = n. Theorem add_0 : forall n : nat, n + 1 = n. exact a. Qed.": "Axiom is refused",
    "Axiom add_0 : forall n : nat, n + 1 = n.": "Axiom is refused",
    "#[local] Polymorphic Axiom a : False. Theorem add_0 n : n + 1 = n. destruct a. Qed.": "Axiom is refused",
    "Parameter a : False. Theorem add_0 n : n + 1 = n. destruct a. Qed.": "Parameter is refused",
    "Module Type M. Parameter a : False. End M.": "Parameter is refused",
    "Conjecture a : False. Theorem add_0 n : n + 1 = n. destruct a. Qed.": "Conjecture is refused",
    "Variable a : False. Theorem add_0 : forall n : nat, n + 1 = n. destruct a. Qed.": "unproved Answer.a",
    "Hypothesis a : False. Theorem add_0 : forall n : nat, n + 1 = n. destruct a. Qed.": "unproved Answer.a",
    "Context (a : False). Theorem add_0 : forall n : nat, n + 1 = n. destruct a. Qed.": "unproved Answer.a",
    "Require Import String. Variable a : \"Closed under the global context\"%string = EmptyString /\\ False. "
    "Theorem add_0 : forall n : nat, n + 1 = n. destruct a as [_ []]. Qed.": "unproved Answer.a",
    "Section S. Variable a : False. Theorem add_0 : forall n, n + 1 = n. destruct a. Qed. End S.": "proves something else",
    "Class C := c : False. Declare Instance i : C. Theorem add_0 n : n + 1 = n. destruct i. Qed.": "Declare Instance",
    "Program Definition a : False := _. Admit Obligations. Theorem add_0 n : n + 1 = n. destruct a. Qed.": "Admit is refused",
    "Theorem add_0 : forall n : nat, n + 0 = n. Proof. now induction n. Qed.": "proves something else",
    "Module M. Theorem add_0 : True. Proof. exact I. Qed. End M.": "proves something else",
    "Theorem other : True. Proof. exact I. Qed. Definition add_0 := other.": "proves something else",
    'Notation "n + 1" := (id n) (at level 50). Theorem add_0 : forall n : nat, n + 1 = n. Proof. reflexivity. Qed.': "proves something else",
    "Definition nat := unit. Theorem add_0 : forall n : nat, n = n. Proof. reflexivity. Qed.": "proves something else",
    "Definition eq {A} (x y : A) := True. Notation \"x = y\" := (eq x y) : type_scope. "
    "Theorem add_0 : forall n : nat, n + 1 = n. Proof. intros; exact I. Qed.": "proves something else",
    "Module Nat. Definition add (a b : nat) := a. End Nat. "
    "Theorem add_0 n : Nat.add n 1 = n. Proof. reflexivity. Qed.": "proves something else",
    "Theorem add_0 : forall n : nat, True. Proof. exact (fun _ => I). Qed.": "proves something else",
    "Unset Guard Checking. Fixpoint lie (n : nat) : False := lie n. Theorem add_0 n : n + 1 = n. destruct (lie 0). Qed.": "Unset Guard Checking",
    "#[bypass_check(guard)] Fixpoint lie (n : nat) : False := lie n. "
    "Theorem add_0 n : n + 1 = n. destruct (lie 0). Qed.": "bypass_check",
    "Fixpoint lie (n : nat) : False := lie n. Theorem add_0 n : n + 1 = n. destruct (lie 0). Qed.": "Recursive definition",
    "Inductive b := B : (b -> False) -> b.": "Non strictly positive",
    "Unset Universe Checking. Theorem add_0 n : n + 1 = n. destruct n. Qed.": "Unset Universe Checking",
    "exact the_statement.": "unproved Given.the_statement",
    'Declare ML Module "x". Theorem add_0 n : n + 1 = n. Qed.': "Declare ML is refused",
    'Load "/tmp/x". Proof. auto. Qed.': "Load is refused",
    'Add LoadPath "/tmp" as T. Proof. auto. Qed.': "Add LoadPath is refused",
    'Redirect "/tmp/x" Print nat. Proof. auto. Qed.': "Redirect Print is refused",
    'Fail Redirect "/tmp/x" Print nat. Proof. auto. Qed.': "Redirect Print is refused",
    'Extraction "x.ml" nat. Proof. auto. Qed.': "Extraction nat is refused",
    'Cd "/tmp". Proof. auto. Qed.': "Cd is refused",
    'Print Universes "/tmp/x". Proof. auto. Qed.': "Print into a file is refused",
    'Set NativeCompute Profile Filename "/tmp/x". Proof. auto. Qed.': "Set into a file is refused",
    "Primitive int := #int63_type. Proof. auto. Qed.": "Primitive is refused",
    "Proof. intros. Drop. Qed.": "Drop is refused",
    "Proof. intros. (* Qed.": "a comment is not closed",
    'Proof. idtac "Qed.': "a string is not closed",
    "Proof. intros n": "no full stop",
    "The theorem is obvious.": "The theorem is refused",
    'Proof. intros. idtac "Closed under the global context". Qed.': "incomplete proof",
    "Require Import Nowhere. auto.": "Cannot find a physical path",
    "auto. " * 40_000: "longer than 200,000 characters",
}  # fmt: skip


@needs_coq
@pytest.mark.parametrize("cheat", CHEATS, ids=lambda cheat: cheat[:60])
def test_cheats(verifier: Proof, cheat: str) -> None:
    verdict = grade(verifier, cheat, FALSE)
    assert verdict.score == 0.0
    assert CHEATS[cheat] in verdict.detail["error"]


@needs_coq
@pytest.mark.parametrize(
    ("cheat", "error"),
    [
        ("Axiom a : False. Theorem add_0 n : n + 1 = n. destruct a. Qed.", "unproved Answer.a"),
        ("Theorem add_0 : forall n : nat, n + 1 = n. Admitted.", "unproved Answer.add_0"),
        (
            "Unset Guard Checking. Fixpoint lie (n : nat) : False := lie n. Set Guard Checking. "
            "Theorem add_0 : forall n : nat, n + 1 = n. destruct (lie 0). Qed.",
            "Answer.lie is assumed to be guarded",
        ),
        (
            "#[bypass_check(positivity)] Inductive b := B : (b -> False) -> b. Definition f x := match x with B g => g x end. "
            "Theorem add_0 : forall n : nat, n + 1 = n. destruct (f (B f)). Qed.",
            "Answer.b is assumed to be positive",
        ),
    ],
)
def test_what_the_text_would_have_shown_the_kernel_shows_too(verifier: Proof, cheat: str, error: str) -> None:
    assert error in verifier._judge(verifier._task(FALSE, cheat))[1]


@needs_coq
def test_an_obligation_that_is_admitted_and_an_axiom_of_a_library_are_seen(verifier: Proof) -> None:
    assert grade(verifier, "Proof. exact classic. Qed.", CLASSIC).detail == {
        "error": "rests on the unproved Classical_Prop.classic"
    }
    allowed = Proof(workers=1, axioms=["Classical_Prop.classic"])
    assert grade(allowed, "Proof. exact classic. Qed.", CLASSIC).reason == "correct"


@needs_coq
def test_a_library_that_is_not_allowed_is_refused() -> None:
    narrow = Proof(workers=1, libraries=["Elsewhere"])
    assert grade(narrow, "now induction n.", ADD_0).detail["error"].startswith("library Coq.Init.")


@needs_coq
def test_cpu_time_ends_it() -> None:
    spin = "Proof. let rec go n := go n in go 0. Qed."
    verdict = grade(Proof(workers=1, cpu_s=1), spin, ADD_0)
    assert (verdict.score, verdict.reason) == (0.0, "out_of_time")


@needs_coq
def test_the_first_error_is_kept(verifier: Proof) -> None:
    error = grade(verifier, "Proof. reflexivity. Qed.", FALSE).detail["error"]
    assert error.startswith("line ") and "Error:" in error and "\n" not in error


@needs_coq
@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("n + 0 = n", "must be an object with statement"),
        ({"statement": 7}, "must be an object with statement"),
        ({"statement": "Theorem a : True. Proof. exact I. Qed."}, "not one sentence"),
        ({"statement": "Definition a : nat := 1."}, "without a proof"),
        ({"statement": "Theorem a : True"}, "no full stop"),
        ({"statement": "Axiom a : True."}, "without a proof"),
        ({"statement": "Theorem a : nope."}, "coqc refuses the statement: line "),
        (
            {"statement": "Theorem a : True.", "preamble": "Require Import Nowhere."},
            "coqc refuses the statement",
        ),
    ],
)
def test_statements_that_are_none(verifier: Proof, reference: object, words: str) -> None:
    assert words in (verifier.check_reference(reference) or "")
    verdict = grade(verifier, "Proof. exact I. Qed.", reference)
    assert (verdict.score, verdict.reason) == (None, "unparseable_gold")


@needs_coq
def test_good_statements_are_not_complained_about(verifier: Proof) -> None:
    assert verifier.check_references([ADD_0, TWICE, SCOPED, TREE, ASSUMED, CLASSIC]) == [None] * 6


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("a. b.", ["a.", "b."]),
        ("Nat.add x. y.", ["Nat.add x.", "y."]),
        ("a (* b. (* c. *) d. *) e. f.", ["a (* b. (* c. *) d. *) e.", "f."]),
        ('idtac "x. *)". b.', ['idtac "x. *)".', "b."]),
        ('idtac "say ""hi"". ". b.', ['idtac "say ""hi"". ".', "b."]),
        ('(* "*)" *) a.', ['(* "*)" *) a.']),
        ('Notation "[ x ; .. ; y ]" := (f x .. (g y) ..). b.', ['Notation "[ x ; .. ; y ]" := (f x .. (g y) ..).', "b."]),
        ("auto... b.", ["auto...", "b."]),
        ("{ a. } { b. }", ["{ a.", "} { b.", "}"]),
    ],
)  # fmt: skip
def test_sentences(text: str, cut: list[str]) -> None:
    assert [each.text for each in sentences(text)] == cut


@given(st.text(alphabet="ab. (*)\"\n#[]{}-+'", max_size=60))
def test_any_text_is_cut_whole_or_refused(text: str) -> None:
    try:
        found = sentences(text)
    except UnreadableError:
        return
    refusal(found)
    assert "".join("".join(each.text for each in found).split()) == "".join(text.split())


def test_comments_and_strings_hide_nothing_and_accuse_nobody() -> None:
    assert refusal(sentences('(* Admitted. *) idtac "Axiom x. ". auto.')) is None
    assert refusal(sentences("Proof. (* *) Admitted.")) == ("wrong", "Admitted is refused")
    assert refusal(sentences('idtac "(*". Admitted. idtac "*)".')) == ("wrong", "Admitted is refused")
    assert refusal(sentences("apply Axiom_of_choice. exact Admitted_thing.")) is None


def test_what_the_preamble_defines_is_not_defined_again() -> None:
    files = compose(
        TWICE["preamble"], TWICE["statement"], "Definition twice  (n : nat) := n + n.\nauto.", "P0"
    )
    assert "Definition" not in files["Answer.v"]
    assert files["Answer.v"].startswith("Require Import Arith.\nRequire Import P0.Given.")
    assert "Lemma the_statement (n : nat)" in files["Given.v"] and "twice_2" not in files["Given.v"]


def test_names() -> None:
    assert name_of("Theorem add_0' (n : nat) : n + 0 = n.") == "add_0'"
    assert name_of("#[global] Instance i : C.") == "i"
    with pytest.raises(UnreadableError):
        name_of("Theorem a : True. Axiom b : False.")


@pytest.mark.parametrize("assistant", ["coq", "lean"])
def test_a_missing_program_is_named_with_its_installation(
    assistant: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        pytest.skip("needs bwrap (apt install bubblewrap)")
    (tmp_path / "bwrap").symlink_to(bwrap)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match="apt install coq" if assistant == "coq" else r"lean-lang\.org"):
        Proof.model_validate({"assistant": assistant}).check()


def test_a_program_that_the_sandbox_cannot_show_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "lean"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(MissingError, match="the sandbox shows only /usr"):
        Proof(assistant="lean").check()
    unsafe = Proof(assistant="lean", sandbox="none")
    unsafe.check()
    assert unsafe.foreign() == ["runs proofs that models wrote without a sandbox"]
    assert Proof().foreign() == []


STATEMENT = "theorem add_0 (n : Nat) : n + 0 = n"


@pytest.mark.parametrize("proof", ["by simp", ":= by simp", "simp", f"{STATEMENT} := by simp", "intro\nsimp"])
def test_a_lean_proof_stands_behind_our_statement(proof: str) -> None:
    files = lean.compose("open Nat", STATEMENT, lean.proof_in(STATEMENT, proof))
    assert files["Answer.lean"].startswith(f"open Nat\n\n{STATEMENT} := by")
    assert files["Answer.lean"].count("theorem") == 1 and "simp" in files["Answer.lean"]
    assert files["Check.lean"] == "import Answer\n#print axioms add_0\n"


@pytest.mark.parametrize(
    ("proof", "refused"),
    [
        ("by sorry", "sorry is refused"),
        ("by simp\naxiom a : False", "axiom is refused"),
        ("by simp\nmacro_rules | `(x) => `(y)", "macro_rules is refused"),
        ("by simp\n#eval 1", "#eval is refused"),
        ("by native_decide", "native_decide is refused"),
        ("theorem other : True := trivial", "theorem is refused"),
        ("by /- open", "a comment is not closed"),
        ("by simp -- sorry", None),
        ("by /- sorry /- axiom -/ -/ simp", None),
        ('by exact foo "sorry"', None),
        ("by exact h.sorry_free", None),
        ('by exact r"\\" macro "', "a raw or open string is refused"),
        ('by exact "' + r"\"" * 100_000, "a raw or open string is refused"),
    ],
)
def test_a_lean_proof_is_a_proof_and_nothing_else(proof: str, refused: str | None) -> None:
    assert lean.refusal(lean.proof_in(STATEMENT, proof)) == refused


def test_what_lean_says_of_axioms() -> None:
    assert lean.unproved("'a' does not depend on any axioms", []) is None
    assert lean.unproved("'a' depends on axioms: [propext, Quot.sound]", []) is None
    assert lean.unproved("'a' depends on axioms: [propext,\n sorryAx]", []) == "rests on the unproved sorryAx"
    assert lean.unproved("'a' depends on axioms: [mine]", ["mine"]) is None
    assert lean.unproved("", []) == "the check gave no answer"


def test_what_coq_says_of_axioms() -> None:
    loaded = "Loaded library files: \n  Coq.Init.Prelude\n  P0.Given\n"

    def unproved(said: str, axioms: tuple[str, ...] = (), listed: str = loaded) -> str | None:
        return gallina.unproved(said + listed, "P0", axioms, ["Coq"])

    assert unproved("Closed under the global context\n") is None
    assert unproved("Axioms:\nGiven.a : forall n,\n  n = n\n") is None
    assert unproved("Axioms:\nGiven.the_statement : nat\n") == "rests on the unproved Given.the_statement"
    assert unproved("Axioms:\nlong.name\n  : nat\n") == "rests on the unproved long.name"
    assert unproved("Axioms:\nlong.name\n  : nat\n", ("long.name",)) is None
    assert unproved("Axioms:\nAnswer.f is assumed to be guarded.\n") == "Answer.f is assumed to be guarded."
    assert unproved("", listed="") == "the check gave no answer"
    assert unproved("Closed under the global context\n", listed=loaded + "  mathcomp.x\n") is not None


@needs_coq
def test_without_a_sandbox_it_says_so() -> None:
    bare = Proof(workers=1, sandbox="none")
    verdict = grade(bare, "now induction n.", ADD_0)
    assert (verdict.reason, verdict.telemetry) == ("correct", {"sandbox": "none"})
    assert grade(bare, "Proof. Admitted.", ADD_0).reason == "wrong"
