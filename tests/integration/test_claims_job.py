"""`tightframe claims`: every statement once, judged by all its claims, whatever happens to one experiment."""

from __future__ import annotations

import math
import os
import re
import signal
from dataclasses import dataclass, replace

import pytest

from door import refused
from tightframe.cli.main import main
from tightframe.core.errors import InputError
from tightframe.experiments import catalog, ledger
from tightframe.experiments.attempts import Attempt, in_processes
from tightframe.experiments.base import Place
from tightframe.experiments.claims import check
from tightframe.experiments.entry import Entry
from tightframe.experiments.study import Findings, Study
from tightframe.report import ledger as shown
from tightframe.report import page
from tightframe.runs.record import Claim, Record
from tightframe.runs.series import rows_of
from tightframe.runs.store import load_records

ROWS = {
    "alpha": ("N1", "N10"),
    "beta": ("N10", "D9"),
    "gamma": ("R1",),
    "delta": ("K1",),
    "optimizers": ("T1",),
}
# By experiment and claim: what is observed, where at most 1 is expected.
OBSERVED = {
    "alpha": {"N1.a": 0.5, "N1.b": 1.0, "N10.a": 0.0},
    "beta": {"N10.b": math.inf, "D9.a": 0.1, "D9.b": None},
    "optimizers": {"T1.<i>|$x$": 3.0},
}


@dataclass(frozen=True)
class Size:
    n: int


class House:
    """A catalogue of five experiments: three that judge, one that breaks, one that refuses its place."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.size = 3
        self.observed = {name: dict(values) for name, values in OBSERVED.items()}

    def load(self, name: str) -> Study:
        def investigate(_config, sweep) -> Findings:
            self.ran.append(name)
            if name == "gamma":
                return Findings((), str(1 / 0))
            if name == "delta":
                raise InputError("something else", got=f"what is in {sweep.kept.parent}", remedy="Change it.")
            stated = {"statement": "A | b < c.", "source": "L4", "expected": 1.0, "note": "so drawn"}
            return Findings(tuple(Claim(id=i, observed=o, **stated) for i, o in self.observed[name].items()), "Yes.")

        return Study(catalog.entry(name), {"smoke": Size(1), "quick": Size(self.size)}, investigate)


@pytest.fixture
def house(monkeypatch) -> House:
    entries = tuple(Entry(name, name.upper(), f"{name}?", ids, ("smoke", "quick")) for name, ids in ROWS.items())
    monkeypatch.setattr(catalog, "ENTRIES", entries)
    house = House()
    monkeypatch.setattr(catalog, "load", house.load)
    return house


def rows(record: Record) -> dict[str, dict]:
    return {row["id"]: row for row in rows_of(record.tables["ledger"])}


def test_a_statement_passes_only_if_all_its_claims_do(house, tmp_path):
    record, records = check(preset="quick", place=Place(tmp_path / "out"))
    found = rows(record)
    assert list(found) == [line.id for line in ledger.LEDGER]
    verdicts = {key: row["verdict"] for key, row in found.items() if row["verdict"] != "not run" or row["seconds"]}
    assert verdicts == {"N1": "passed", "N10": "failed", "D9": "not run", "T1": "failed"}
    tallies = {key: tuple(found[key][word] for word in ("passed", "failed", "not run")) for key in verdicts}
    assert tallies == {"N1": (2, 0, 0), "N10": (1, 1, 0), "D9": (1, 0, 1), "T1": (0, 1, 0)}
    assert (found["N10"]["experiments"], found["N10"]["note"]) == ("alpha, beta", "")
    seconds = {one.name: one.seconds for one in records}
    assert found["N10"]["seconds"] == seconds["alpha"] + seconds["beta"]
    assert [one.name for one in records] == ["alpha", "beta", "optimizers"]
    assert "Failed: N10, T1. Not run: D1," in record.answer
    assert "Of 48 statements 1 passed" in record.answer


def test_an_experiment_that_fails_takes_no_other_with_it_and_says_why(house, tmp_path):
    record, _ = check(place=Place(tmp_path / "out"))
    found = rows(record)
    assert sorted(house.ran) == sorted(ROWS)
    assert "gamma: ZeroDivisionError in test_claims_job.py, line" in found["R1"]["note"]
    assert found["K1"]["note"] == "delta: something else; got what is in delta. Change it."
    assert found["X1"]["note"] == "no experiment judges it"
    assert {found[key]["verdict"] for key in ("R1", "K1", "X1")} == {"not run"}


def test_those_that_take_longest_begin_first(house, tmp_path):
    check(["T1", "N", "D"], place=Place(tmp_path / "out"))
    assert house.ran == ["optimizers", "alpha", "beta"]


def test_the_claims_are_those_of_the_ids_asked_for(house, tmp_path):
    record, records = check(["N10"], place=Place(tmp_path / "out"))
    assert list(rows(record)) == ["N10"]
    table = record.tables["claims"]
    assert table["claim"] == ["N10.a", "N10.b"]
    assert table["observed"] == [0.0, "inf"]
    assert table["experiment"] == ["alpha", "beta"]
    assert Record.from_json(record.to_json()) == record
    assert load_records([tmp_path / "out"]) == [records[0], records[1], record]


def test_finished_experiments_are_read_back_and_the_others_run(house, tmp_path):
    out = tmp_path / "out"
    check(["N1"], place=Place(out))
    first, _ = check(["R1"], place=Place(out))
    assert house.ran == ["alpha", "gamma"]
    again, records = check(["N1", "N10", "R1"], place=Place(out, resume=True))
    assert house.ran == ["alpha", "gamma", "beta", "gamma"]
    assert [record.name for record in records] == ["alpha", "beta"]
    assert rows(again)["N1"]["verdict"] == "passed"
    assert rows(first)["R1"]["note"] == rows(again)["R1"]["note"]


def test_gathering_runs_nothing_and_reads_what_fits(house, tmp_path):
    out = tmp_path / "out"
    for name in ("alpha", "beta", "optimizers"):
        check([ROWS[name][-1]], "quick", place=Place(out, resume=True))
    ran = list(house.ran)
    house.size = 4
    (out / "beta" / "record.json").unlink()
    record, records = check(preset="quick", place=Place(out), gather=True)
    assert (house.ran, records) == (ran, [])
    found = rows(record)
    assert found["D9"]["note"] == "beta: there is no finished run"
    assert found["N1"]["note"].startswith("alpha: the configuration the run began with, for --resume; got other values")
    assert "n: 3 then, 4 now" in found["N1"]["note"]
    assert str(tmp_path) not in record.to_json()
    assert {row["verdict"] for row in found.values()} == {"not run"}


def test_a_statement_with_an_experiment_that_is_missing_is_no_pass(house, tmp_path):
    check(["N1"], place=Place(tmp_path))
    record, _ = check(["N"], place=Place(tmp_path), gather=True)
    found = rows(record)["N10"]
    assert (found["passed"], found["failed"], found["not run"]) == (1, 0, 0)
    assert (found["verdict"], found["note"]) == ("not run", "beta: there is no finished run")
    assert rows(record)["N1"]["verdict"] == "passed"


@pytest.mark.parametrize("claimed", [{"N1.a": 0.5}, {"N1.a": 0.5, "N10.a": 0.5, "N2": 0.5}, {}])
def test_a_record_that_judges_other_claims_counts_as_not_run(house, tmp_path, claimed):
    house.observed["alpha"] = claimed
    record, records = check(["N1"], place=Place(tmp_path / "out"))
    assert (records, rows(record)["N1"]["verdict"]) == ([], "not run")
    assert ", not N1, N10: run it again" in rows(record)["N1"]["note"]


def test_what_cannot_be_one_ledger_is_refused_before_anything_runs(house, tmp_path, monkeypatch):
    out = tmp_path / "out"
    check(["N1"], "quick", place=Place(out))
    del house.ran[:]
    with pytest.raises(InputError, match=r"runs of preset 'smoke' in one ledger; got .*: alpha \(quick\)"):
        check(["N1", "D"], "smoke", place=Place(out, resume=True))
    with pytest.raises(InputError, match=r"an empty or new directory for a new ledger; got .*which holds alpha\."):
        check(["N"], "quick", place=Place(out))
    with pytest.raises(InputError, match="a preset that every experiment has; got 'paper', which alpha, beta lack"):
        check(["N10"], "paper", place=Place(tmp_path / "new"))
    with pytest.raises(InputError, match="the id of a claim, or the letter of a subject; got 'N99'"):
        check(["N1", "N99"], place=Place(tmp_path / "new"))
    with pytest.raises(InputError, match="a directory for the ledger"):
        check(["N1"], place=Place())
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"a place to write .*file.claims; got Not a directory"):
        check(["N1"], place=Place(tmp_path / "file"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="one process, which starts others itself"):
        check(["N1"], place=Place(tmp_path / "new"))
    assert house.ran == []
    assert not (tmp_path / "new").exists()


def test_the_page_leads_from_every_statement_to_its_claims_and_sections(house, tmp_path):
    record, records = check(place=Place(tmp_path / "out"))
    text = page.render([record, *records])
    assert re.findall(r"<dt>statements? (.*?)</dt><dd>(\d+)</dd>", text) == [
        ("passed", "1"),
        ("failed", "2"),
        ("not run", "45"),
    ]
    assert len(re.findall(r'<section class="run"', text)) == 3
    links, ids = set(re.findall(r'href="#([^"]+)"', text)), re.findall(r' id="([^"]+)"', text)
    assert links <= set(ids)
    assert len(ids) == len(set(ids))
    assert {"claim-N1", "claim-N10", "claim-D9", "claim-T1", "run-1", "run-2", "run-3"} <= links
    assert "claim-R1" not in links
    table = text[text.index('<section id="ledger"') : text.index('<section id="claims"')]
    lines = {
        re.search(r"(?:>|^)([A-Z]\d+)<", part).group(1): part
        for part in table.split('role="rowheader">')[1:]
        if re.search(r"(?:>|^)[A-Z]\d+<", part)
    }
    assert list(lines) == [line.id for line in ledger.LEDGER]
    assert re.findall(r'href="#(run-\d)">(\w+)<', lines["N10"]) == [("run-1", "ALPHA"), ("run-2", "BETA")]
    assert "1 passed" in lines["N10"]
    assert "1 failed" in lines["N10"]
    assert "gamma: ZeroDivisionError" in lines["R1"]
    # A row that carries an anchor is one of the statement that leads there.
    anchored = re.findall(r'id="claim-(\w+)">\s*<th[^>]*><a href="#run-(\d)">([^<]*)</a>', text)
    assert [(key, place) for key, place, _ in anchored] == [("N1", "1"), ("N10", "1"), ("D9", "2"), ("T1", "3")]
    assert all(claim.split(".")[0] == key for key, _, claim in anchored)


def test_a_page_without_a_ledger_is_as_before(house, tmp_path):
    _, records = check(["N1"], place=Place(tmp_path / "out"))
    text = page.render(records)
    assert 'id="ledger"' not in text
    assert re.findall(r"<dt>(.*?)</dt><dd>(\d+)</dd>", text)[0] == ("claims passed", "3")
    assert "claim-N1" not in text


def test_the_ledger_alone_can_be_shown(house, tmp_path):
    record, _ = check(place=Place(tmp_path / "out"))
    text = page.render([record])
    assert "alpha, beta" in " ".join(text.split())
    assert '<section class="run"' not in text


def test_the_markdown_holds_every_claim_once(house, tmp_path):
    record, records = check(place=Place(tmp_path / "out"))
    text = shown.markdown(record, records, sources=ledger.SOURCES)
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")]
    # Between the bars: a source, a statement or a claim.
    assert {len(row) for row in cells} == {2, 9, 7}
    summaries = {re.sub(r"\W|n\d+$", "", row[0].split("]")[0]): row for row in cells if len(row) == 9}
    assert {line.id for line in ledger.LEDGER} <= set(summaries)
    assert summaries["N10"][3:7] == [" **failed** ", " 1 ", " 1 ", " 0 "]
    assert summaries["N1"][3] == " passed "
    stated = [row[0].strip(" `") for row in cells if len(row) == 7 and "`" in row[0]]
    assert stated == ["D9.a", "D9.b", "N1.a", "N1.b", "N10.a", "N10.b", "T1.<i>-$x$"]
    unfit = next(row for row in cells if row[0] == " `N10.b` ")
    assert [cell.strip() for cell in unfit[1:]] == [
        r"A \| b \< c. (so drawn)",
        "L4",
        "≤ 1",
        "0",
        "∞",
        "**failed**",
    ]
    for link in re.findall(r"\]\(#(\w+)\)", text):
        assert f"### {link.upper()}\n" in text
    assert str(tmp_path) not in text


def test_the_command_writes_page_record_and_markdown(house, tmp_path, capsys):
    out = tmp_path / "out"
    main(["claims", "N1", "R", "--out", str(out), "--preset", "quick", "--quiet"])
    said = capsys.readouterr()
    assert re.search(r"^passed +N1 +2 ", said.out, re.MULTILINE)
    assert re.search(r"^not run +R1 +0 .*gamma: ZeroDivisionError", said.out, re.MULTILINE)
    assert said.err == f"wrote {out / 'report.html'}\n"
    assert sorted(path.name for path in out.iterdir()) == ["alpha", "claims", "claims.md", "gamma", "report.html"]
    assert (out / "claims.md").read_text("utf-8").startswith("# The claims ledger\n")
    assert "Preset quick" in (out / "claims.md").read_text("utf-8")
    assert "got 'Z'" in refused(capsys, "claims", "Z", "--out", str(tmp_path / "z"))
    assert "tiny" in refused(capsys, "claims", "--out", str(tmp_path / "z"), "--preset", "tiny")


def dies_at_beta(entry: Entry, _preset: str, place: Place) -> Attempt:
    """In a process of its own: of three experiments the second kills its process whenever it is run."""
    if entry.name == "beta":
        os.kill(os.getpid(), signal.SIGKILL)
    return Attempt(entry, reason=f"{entry.name}, {os.getpid() != place.workers}")


def test_a_process_that_is_killed_takes_no_other_experiment_with_it(tmp_path):
    entries = [Entry(name, name, name, ids) for name, ids in ROWS.items() if name != "gamma"]
    # `workers` carries the id of this process, so that the others can say that they are others.
    place = replace(Place(tmp_path), workers=os.getpid())
    attempts = list(in_processes(dies_at_beta, entries, preset="smoke", place=place, workers=2))
    assert {attempt.entry.name: attempt.reason for attempt in attempts} == {
        "alpha": "alpha, True",
        "beta": "its process was killed, for memory perhaps",
        "delta": "delta, True",
        "optimizers": "optimizers, True",
    }
    assert len(attempts) == len(entries)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_every_claim_of_the_ledger_is_run_at_the_smoke_preset(tmp_path):
    out = tmp_path / "out"
    main(["claims", "--preset", "smoke", "--workers", "2", "--out", str(out), "--quiet"])
    (record,) = load_records([out / "claims"])
    found = rows(record)
    assert list(found) == [line.id for line in ledger.LEDGER]
    assert {key: row["note"] for key, row in found.items() if row["note"]} == {}
    assert {key for key, row in found.items() if row["passed"] + row["failed"] == 0} == set()
    assert record.seconds < 15 * 60
    assert len(load_records([out])) == len(catalog.ENTRIES) + 1
    text = (out / "report.html").read_text("utf-8")
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(re.findall(r' id="([^"]+)"', text))
    assert 'data-state="failed"' not in text
