"""What each command does; heavy imports happen here, after the arguments have been understood."""

from __future__ import annotations

import json
import sys

from tightframe.cli.options import ClaimsOptions, CompareOptions, ListOptions, ReportOptions, RunOptions
from tightframe.core.errors import InputError
from tightframe.jobs.complete_options import CompleteOptions
from tightframe.jobs.deconvolve_options import DeconvolveOptions
from tightframe.jobs.finetune_options import FinetuneOptions
from tightframe.jobs.options import CertifyOptions, MeasureOptions, ScoreOptions, SweepOptions, TrainOptions
from tightframe.jobs.restore_options import DenoiseOptions, InpaintOptions
from tightframe.jobs.sort_options import SortOptions


def execute(options: object) -> None:
    """Carry out the command that these options belong to."""
    _ACTIONS[type(options)](options)


def _train(options: TrainOptions) -> None:
    from tightframe.jobs.train import train

    record = train(options)
    if record is not None:
        _say(record.answer)
        _report([record], options.out / "report.html")


def _sweep(options: SweepOptions) -> None:
    from tightframe.jobs.sweep import sweep
    from tightframe.report.tables import text_table

    comparison, records = sweep(options)
    _say(text_table(comparison.tables["comparison"]))
    _report([comparison, *records], options.out / "report.html")


def _measure(options: MeasureOptions) -> None:
    from tightframe.jobs.measure import measure

    measured = measure(options)
    if measured is None:
        return
    if options.format == "json":
        _say(json.dumps([summary.to_dict() for summary in measured.summaries], indent=1))
    else:
        _say("\n\n".join(map(str, measured.summaries)))
    if options.out is not None:
        _report([measured.record], options.out / "report.html")


def _certify(options: CertifyOptions) -> None:
    from tightframe.jobs.certificate_report import plain, text
    from tightframe.jobs.certify import certify

    certified = certify(options)
    if certified is None:
        return
    if options.format == "json":
        _say(json.dumps(plain(certified.excess), indent=1))
    else:
        _say(text(certified.excess))
    if options.out is not None:
        _report([certified.record], options.out / "report.html")


def _score(options: ScoreOptions) -> None:
    from tightframe.jobs.score import score
    from tightframe.report.tables import text_table

    ranking = score(options)
    if options.format == "json":
        _say(json.dumps(ranking.to_dict(), indent=1))
    else:
        tables = ranking.record.tables
        _say(
            "\n\n".join(
                [*(text_table(tables[name]) for name in ("ranking", "scores", "what they are")), ranking.record.answer]
            )
        )
    if options.out is not None:
        _report([ranking.record], options.out / "report.html")


def _finetune(options: FinetuneOptions) -> None:
    from tightframe.jobs.finetune import finetune
    from tightframe.jobs.finetune_report import plain, text

    tuned = finetune(options)
    _say(json.dumps(plain(tuned), indent=1) if options.format == "json" else text(tuned))
    if options.out is not None:
        _report([tuned.record], options.out / "report.html")


def _denoise(options: DenoiseOptions) -> None:
    from tightframe.jobs.restore import denoise_image

    _restored(denoise_image(options), options)


def _inpaint(options: InpaintOptions) -> None:
    from tightframe.jobs.restore import inpaint_image

    _restored(inpaint_image(options), options)


def _restored(record, options: DenoiseOptions | InpaintOptions) -> None:
    from tightframe.report.tables import text_table

    _say(f"{text_table(record.tables['quality'])}\n\n{record.answer}")
    _report([record], options.out / "report.html")


def _sort(options: SortOptions) -> None:
    from tightframe.jobs.sort import sort_file
    from tightframe.report.tables import text_table

    record = sort_file(options).record
    _say(f"{text_table(record.tables['units'])}\n\n{record.answer}")
    _report([record], options.out / "report.html")


def _deconvolve(options: DeconvolveOptions) -> None:
    from tightframe.jobs.deconvolve import deconvolve
    from tightframe.report.tables import text_table

    record = deconvolve(options)
    shown = [record.tables[name] for name in ("kernels", "defects") if name in record.tables]
    _say("\n\n".join([*map(text_table, shown), record.answer]))
    _report([record], options.out / "report.html")


def _complete(options: CompleteOptions) -> None:
    from tightframe.jobs.complete import complete
    from tightframe.report.tables import text_table

    record = complete(options)
    _say(f"{text_table(record.tables['summary'])}\n\n{record.answer}")
    _report([record], options.out / "report.html")


def _run(options: RunOptions) -> None:
    from tightframe.experiments import catalog
    from tightframe.experiments.base import Place

    if not options.names:
        names = ", ".join(entry.name for entry in catalog.ENTRIES)
        raise InputError("at least one experiment", got="none", remedy=f"Name some of {names}.")
    entries = list(dict.fromkeys(entry for name in options.names for entry in catalog.entries(name)))
    records = []
    for entry in entries:
        place = Place(
            out=options.out / entry.name,
            resume=options.resume,
            data_root=options.data_root,
            workers=options.workers,
            progress=not options.quiet,
        )
        records.append(catalog.load(entry.name).run(options.preset, place=place))
    if all(record is not None for record in records):
        from tightframe.report.tables import text_claims

        _say(text_claims(records))
        _report(records, options.out / "report.html")


def _claims(options: ClaimsOptions) -> None:
    from tightframe.experiments.base import Place
    from tightframe.experiments.claims import check
    from tightframe.experiments.ledger import SOURCES
    from tightframe.report import ledger, page
    from tightframe.report.tables import text_table
    from tightframe.runs.store import write_atomic

    place = Place(options.out, options.resume, options.data_root, options.workers, progress=not options.quiet)
    record, records = check(options.ids, options.preset, place=place, gather=options.gather)
    table = record.tables["ledger"]
    shown = {name: table[name] for name in ("verdict", "id", "passed", "failed", "not run", "seconds")}
    said = [why or what for why, what in zip(table["note"], table["statement"], strict=True)]
    _say(f"{text_table(shown | {'statement, or why it was not run': said})}\n\n{record.answer}")
    write_atomic(options.out / "claims.md", ledger.markdown(record, records, sources=SOURCES))
    # The figures of so many experiments take minutes to draw, and each has a report of its own: `tightframe report`.
    _note(f"wrote {page.write([record, *records], options.out / 'report.html', figures=False)}")


def _report_runs(options: ReportOptions) -> None:
    from tightframe.report import page
    from tightframe.runs.store import load_records

    _note(f"wrote {page.write(load_records(options.runs), options.output, title=options.title)}")


def _compare(options: CompareOptions) -> None:
    from tightframe.report import page, tables
    from tightframe.report.compare import compare
    from tightframe.runs.store import load_records

    sides = [load_records([path]) for path in (options.first, options.second)]
    for path, found in zip((options.first, options.second), sides, strict=True):
        if len(found) > 1:
            names = ", ".join(record.name for record in found)
            raise InputError("one run on each side", got=f"{len(found)} in {path}: {names}", remedy="Name one of them.")
    record = compare(sides[0][0], sides[1][0])
    _say(tables.text_table(record.tables["last values"]))
    if options.output is not None:
        _note(f"wrote {page.write([record], options.output, title=record.title)}")


def _list(_options: ListOptions) -> None:
    from tightframe.experiments.catalog import ENTRIES

    lines = ["experiments (tightframe run NAME --out DIR)"]
    width = max(len(entry.name) for entry in ENTRIES)
    for entry in ENTRIES:
        lines.append(f"  {entry.name:<{width}}  {entry.question}")
        lines.append(f"  {'':<{width}}  claims: {', '.join(entry.claims)}; presets: {', '.join(entry.presets)}")
    lines += [
        "",
        "data      digits, digits:SEED, gaussian:CLASSESxSAMPLES, mnist, fashion-mnist, cifar10, "
        "textures, textures:SEED, folder:PATH, hf:NAME",
        "networks  mlp, mlp-bn, resnet18, resnet34, resnet50, vit (vit/4: patch 4)",
        "          IMPORT.PATH:factory to measure, certify, score, finetune; hf:NAME, timm:NAME to score, finetune",
        "heads     linear, etf, aligned, normalized",
        "losses    ce, ls, focal, mse, mcr2, gce, elr, sop, sop+, with options as in focal:gamma=3",
        "noise     none, symmetric:0.4, asymmetric:0.4, random, file:labels.npz:KEY",
    ]
    _say("\n".join(lines))


def _report(records: list, path) -> None:
    from tightframe.report import page

    _note(f"wrote {page.write(records, path)}")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def _note(text: str) -> None:
    sys.stderr.write(text + "\n")


_ACTIONS = {
    TrainOptions: _train,
    SweepOptions: _sweep,
    MeasureOptions: _measure,
    CertifyOptions: _certify,
    ScoreOptions: _score,
    FinetuneOptions: _finetune,
    DenoiseOptions: _denoise,
    InpaintOptions: _inpaint,
    SortOptions: _sort,
    DeconvolveOptions: _deconvolve,
    CompleteOptions: _complete,
    RunOptions: _run,
    ClaimsOptions: _claims,
    ReportOptions: _report_runs,
    CompareOptions: _compare,
    ListOptions: _list,
}
