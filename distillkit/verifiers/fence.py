"""The last fenced block of a response: where a query or a proof stands."""

from collections.abc import Collection


def last_block(response: str, labels: Collection[str]) -> str | None:
    """Content of the last closed, non-blank ``` block without a label or with one of these; None without one.

    Labels are compared in lower case. Linear in the response's length.
    """
    found: str | None = None
    fence, label, inside = "", "", list[str]()
    for line in response.splitlines():
        mark = line.strip()
        if not fence:
            if mark.startswith("```"):
                name = mark.lstrip("`")
                fence, label, inside = mark[: len(mark) - len(name)], name.strip().lower(), []
        elif mark.startswith(fence) and not mark.strip("`"):
            if (not label or label in labels) and any(each.strip() for each in inside):
                found = "\n".join(inside)
            fence = ""
        else:
            inside.append(line)
    return found
