"""Words and phrases by which a trace turns back on itself: two published lists, and four classes of our own.

English stands in lower case and is looked for in any; Chinese has no published list, so its phrases are ours, said in
the way that R1 and QwQ say them.
"""

LISTS: dict[str, tuple[str, ...]] = {
    # DeepSeek-R1, arXiv:2501.12948v2 and Nature 645 (2025), Extended Data Fig. 1: chosen by three experts.
    "r1": ("wait", "mistake", "however", "but", "retry", "error", "verify", "wrong", "evaluate", "check"),
    # sail-sg/understand-r1-zero, analysis/keyword_count.py (Liu et al., arXiv:2503.20783).
    "oat": (
        "recheck",
        "rethink",
        "reassess",
        "reevaluate",
        "re-evaluate",
        "reevaluation",
        "re-examine",
        "reexamine",
        "reconsider",
        "reanalyze",
        "double-check",
        "check again",
        "think again",
        "verify again",
        "go over the steps",
    ),
}

CHINESE: dict[str, tuple[str, ...]] = {
    # The English list, word by word; "but" is left out, for it connects any two clauses in Chinese.
    "r1": (
        "\u7b49\u4e00\u4e0b",  # wait a moment
        "\u7b49\u7b49",  # wait
        "\u7a0d\u7b49",  # hold on
        "\u9519\u8bef",  # error, mistake
        "\u5931\u8bef",  # slip
        "\u7136\u800c",  # however
        "\u91cd\u8bd5",  # retry
        "\u9a8c\u8bc1",  # verify
        "\u4e0d\u5bf9",  # not right
        "\u9519\u4e86",  # got it wrong
        "\u8bc4\u4f30",  # evaluate
        "\u68c0\u67e5",  # check
        "\u6838\u5bf9",  # check against
    ),
    "oat": (
        "\u518d\u68c0\u67e5",  # check again
        "\u91cd\u65b0\u68c0\u67e5",  # recheck
        "\u91cd\u65b0\u601d\u8003",  # rethink
        "\u91cd\u65b0\u8bc4\u4f30",  # reassess, reevaluate
        "\u91cd\u65b0\u5ba1\u89c6",  # re-examine
        "\u91cd\u65b0\u8003\u8651",  # reconsider
        "\u91cd\u65b0\u5206\u6790",  # reanalyze
        "\u518d\u60f3\u60f3",  # think again
        "\u518d\u60f3\u4e00\u4e0b",  # think again
        "\u518d\u6b21\u9a8c\u8bc1",  # verify again
        "\u518d\u6b21\u68c0\u67e5",  # check again
        "\u4ed4\u7ec6\u68c0\u67e5",  # double-check
    ),
}

CLASSES: dict[str, tuple[str, ...]] = {
    # What the step does, after the behaviours of Gandhi et al., arXiv:2503.01307; the phrases are ours.
    "backtrack": (
        "wait",
        "hold on",
        "scratch that",
        "no, that's",
        "no, that is",
        "that's not right",
        "that is not right",
        "that's wrong",
        "that is wrong",
        "that can't be right",
        "that doesn't work",
        "doesn't seem right",
        "i made a mistake",
        "i made an error",
        "go back",
        "start over",
        "start again",
        "on second thought",
        "let me correct",
        "let me redo",
        "\u7b49\u7b49",
        "\u7b49\u4e00\u4e0b",
        "\u7a0d\u7b49",
        "\u4e0d\u5bf9",
        "\u6211\u9519\u4e86",
        "\u7b97\u9519\u4e86",
        "\u5f04\u9519\u4e86",
        "\u56de\u5230",  # go back to
        "\u91cd\u65b0\u5f00\u59cb",  # start over
        "\u91cd\u65b0\u8ba1\u7b97",  # compute anew
    ),
    "self_verify": (
        "let me check",
        "let's check",
        "let me verify",
        "let's verify",
        "let me confirm",
        "let's confirm",
        "let me make sure",
        "to verify",
        "to confirm",
        "to double-check",
        "to be sure",
        "double-check",
        "double check",
        "sanity check",
        "check again",
        "verify again",
        "recheck",
        "re-check",
        "plug back",
        "plugging back",
        "substitute back",
        "substituting back",
        "\u9a8c\u8bc1",
        "\u68c0\u67e5",
        "\u6838\u5bf9",
        "\u4ee3\u56de",  # put back in
        "\u68c0\u9a8c",  # test
    ),
    "case_split": (
        "case 1",
        "case 2",
        "case i",
        "case ii",
        "case a",
        "case b",
        "first case",
        "second case",
        "two cases",
        "three cases",
        "several cases",
        "consider the cases",
        "case by case",
        "suppose that",
        "suppose first",
        "otherwise",
        "\u60c5\u51b5\u4e00",
        "\u60c5\u51b5\u4e8c",
        "\u7b2c\u4e00\u79cd\u60c5\u51b5",
        "\u7b2c\u4e8c\u79cd\u60c5\u51b5",
        "\u5206\u60c5\u51b5",
        "\u4e24\u79cd\u60c5\u51b5",
        "\u5206\u7c7b\u8ba8\u8bba",
        "\u5426\u5219",
    ),
    "plan_revision": (
        "alternatively",
        "another approach",
        "another way",
        "another method",
        "another idea",
        "different approach",
        "different way",
        "different method",
        "different strategy",
        "better approach",
        "try something else",
        "instead, let's",
        "instead, let me",
        "instead, i",
        "rethink",
        "reconsider",
        "let me try",
        "let's try",
        "maybe i should",
        "perhaps i should",
        "\u6362\u4e2a\u601d\u8def",
        "\u6362\u4e00\u79cd",
        "\u53e6\u4e00\u79cd\u65b9\u6cd5",
        "\u53e6\u5916\u4e00\u79cd",
        "\u53e6\u4e00\u4e2a\u601d\u8def",
        "\u6216\u8005\u53ef\u4ee5",
        "\u91cd\u65b0\u8003\u8651",
    ),
}
