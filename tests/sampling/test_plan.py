from hypothesis import given
from hypothesis import strategies as st

from distillkit.artifact import Model
from distillkit.engines.base import load_tokenizer
from distillkit.engines.transformers import TransformersEngine
from distillkit.sampling import Ask, Plan, Sampling
from distillkit.spec import digest, seed_of
from distillkit.template import Template
from distillkit.toy import BASE
from distillkit.toy.problems import generate

TOY = Model("toy:base", str(BASE), "content")
PROBLEMS = generate(6, seed=3, split="train")


def plan_of(**sampling):
    declared = Sampling(engine=TransformersEngine(), max_tokens=9, **sampling)
    return Plan.of(declared, TOY, PROBLEMS, 4, 5)


@given(st.integers(0, 2**31 - 1), st.text(), st.integers(0, 10**6))
def test_seed_and_key_are_the_digests_they_are_said_to_be(seed, text, index):
    plan = Plan(None, None, None, None, seed, 8, None, "", "", "", {}, [])
    prompt = digest(text)
    want = plan.want(Ask(PROBLEMS[0], prompt, False), index)
    assert want.seed == seed_of(seed, prompt, index)
    assert want.key == digest([prompt, want.seed])[:32]


def test_the_exact_prompt_can_be_rendered_again_from_a_row(tmp_path):
    from distillkit.engines.base import Completion
    from distillkit.trace import to_row, trace_of

    file = tmp_path / "mine.jinja"
    file.write_text("{% for m in messages %}Q: {{ m.content }}\n{% endfor %}A:<think>")
    tokenizer = load_tokenizer(TOY)
    for given_template, jinja in ((None, None), ("r1", None), ("none", None), (str(file), file.read_text())):
        plan = plan_of(template=given_template)
        for ask in plan.asks:
            want = plan.want(ask, 2)
            row = to_row(plan.trace(want, Completion("a", "stop")))
            trace = trace_of(row)
            again = Template(trace.template, tokenizer, jinja).render(trace.messages)
            assert again == plan.request(want).prompt
            assert digest(again)[:32] == trace.sampling["prompt"]


def test_asking_for_fewer_changes_no_sample_and_going_on_changes_all():
    from distillkit.sampling import Continuation, Until

    declared = Sampling(engine=TransformersEngine(), max_tokens=9)
    plain, fewer, longer = (
        Plan.of(declared, TOY, PROBLEMS, n, 5, until, more)
        for n, until, more in (
            (8, None, None),
            (4, Until(correct=2), None),
            (8, None, Continuation(max_tokens=4)),
        )
    )
    assert plain.ledger == fewer.ledger == longer.ledger
    assert plain.origin == fewer.origin != longer.origin
    assert list(plain.wants(plain.asks[0]))[:4] == list(fewer.wants(fewer.asks[0]))


def test_problems_are_asked_in_the_order_of_their_ids_whatever_order_they_come_in():
    declared = Sampling(engine=TransformersEngine(), max_tokens=9)
    one = Plan.of(declared, TOY, PROBLEMS, 4, 5)
    other = Plan.of(declared, TOY, PROBLEMS[::-1], 4, 5)
    assert [ask.problem.id for ask in one.asks] == sorted(problem.id for problem in PROBLEMS)
    assert [each.key for ask in one.asks for each in one.wants(ask)] == [
        each.key for ask in other.asks for each in other.wants(ask)
    ]
