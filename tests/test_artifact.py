import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from distillkit.artifact import content_of, weights_content

ROWS = [{"id": f"p{i}/o/0", "n": i, "telemetry": "x"} for i in range(20)]


@given(st.permutations(ROWS), st.integers(1, 5))
def test_content_knows_neither_order_nor_sharding_nor_telemetry(rows: list[dict], cut: int) -> None:
    from distillkit.artifact import add_contents

    again = [{**row, "telemetry": "y"} for row in rows]
    assert (
        content_of(again)
        == content_of(ROWS)
        == add_contents([content_of(rows[:cut]), content_of(rows[cut:])])
    )


def test_weights_content_ignores_names_and_versions(tmp_path: Path) -> None:
    for name, version in (("a", "1"), ("b", "2")):
        (tmp_path / name).mkdir()
        config = {"hidden_size": 8, "_name_or_path": name, "transformers_version": version}
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        (tmp_path / name / "model.safetensors").write_bytes(b"weights")
        (tmp_path / name / "training_log.json").write_text(name)
    assert weights_content(tmp_path / "a") == weights_content(tmp_path / "b")
    (tmp_path / "b" / "model.safetensors").write_bytes(b"other")
    assert weights_content(tmp_path / "a") != weights_content(tmp_path / "b")
