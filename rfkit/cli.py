"""Command line: ``rfkit`` or ``python -m rfkit``."""

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path

import rfkit
from rfkit.config import ConfigError, literal, one_of
from rfkit.files import home, read_csv, write_bytes, write_csv, write_json
from rfkit.presets import CHOICES


def main(arguments=None):
    """Run one command."""
    options = _parser().parse_args(arguments)
    path = list(sys.path)
    # so that module:callable finds a network beside the user, or at the project's top
    sys.path[:0] = dict.fromkeys((str(Path.cwd()), str(home().resolve())))
    try:
        return options.run(options) or 0
    except BrokenPipeError:  # as by "| head": whoever read has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:  # ConfigError and DataError are ValueErrors
        return _fail(error, 2)
    except RuntimeError as error:  # StoreError, TooLongError, NotebookError, DivergedError
        return _fail(error, 1)
    except ModuleNotFoundError as error:
        if error.name.partition(".")[0] in ("rfkit", *sys.stdlib_module_names):
            raise
        return _fail(f"{error.name} is not installed; install rfkit with its extra 'full', as requirements.txt does", 1)
    except KeyboardInterrupt:
        return _fail("stopped; finished epochs are kept, run the same command to go on", 130)
    finally:
        sys.path[:] = path


def _fail(message, code):
    print(f"rfkit: {message}", file=sys.stderr)
    return code


def _parser():
    parser = argparse.ArgumentParser("rfkit", description="Receptive fields, and a paper about them, re-run.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = _add_preset(
        _add(commands, _study, "train and analyse the runs of a preset; safe to stop and start again")
    )
    _add_analyses(command)
    command.add_argument("--repair", action="store_true", help="move damaged runs aside and make them again")
    command.add_argument("-j", "--jobs", type=int, help="processes (one per core) of OMP_NUM_THREADS threads, or 1")
    command.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: CUDA if present)")

    command = _add_preset(_add(commands, _plan, "runs, FLOPs, disk and hours of a preset, here or on another device"))
    command.add_argument("--device", help="as in study")
    command.add_argument("--tflops", type=float, help="hours on a device that sustains so many 10^12 FLOP/s")

    _add_preset(_add(commands, _units, "the runs of a preset as JSON, a command each, for workflow engines"))
    _add_preset(_add(commands, _summary, "accuracy of every finished run of a preset as CSV"))

    command = _add_preset(_add(commands, _record, "copy a preset's finished runs to results/, to be committed"))
    _add_analyses(command)
    command.add_argument("--weights", default="", metavar="SEEDS", help="also the final weights of these seeds, as 0,1")

    _add(commands, _ls, "list the finished runs")
    command = _add(commands, _verify, "compare every file of runs and records with its checksum; exit 1 if one differs")
    command.add_argument("folders", type=Path, nargs="*", metavar="DIR", help="default: the run store and results/*")
    _add(commands, _show, "everything known of one run").add_argument("name", help="its folder, or part of it")

    command = _add(commands, _notebook, "execute a notebook with parameters")
    command.add_argument("name", help="such as s33_accuracy_and_pruning; a wrong name lists all")
    command.add_argument(
        "-p", "--parameter", action="append", default=[], metavar="KEY=VALUE", help="such as levels=1,3; any number"
    )
    command.add_argument("-o", "--output", type=Path, help="default: _build/notebooks/NAME.ipynb")

    command = _add(commands, _table, "one of the paper's tables beside your runs")
    command.add_argument("number", type=int, help="its number in the paper, 1 to 14")
    command.add_argument("--preset", default="demo", help="whose runs (default demo)")
    form = command.add_mutually_exclusive_group()
    for name, text in {"csv": "all digits", "latex": "a tabular", "md": "Markdown (default)"}.items():
        form.add_argument(f"--{name}", dest="form", action="store_const", const=name, help=text)
    command.set_defaults(form="md")

    command = _add(commands, _field, "receptive field of every layer of a network")
    command.add_argument("architecture", help="vgg19, resnet50, or module:callable, as torchvision.models:resnet18")
    command.add_argument("--level", type=int, default=1, help="RF level of vgg19 and resnet50 (default 1)")
    command.add_argument("--input", default="3,64,64", help="channels and image size (default 3,64,64)")
    command.add_argument("--json", action="store_true")

    command = _add(commands, _book, "train what is missing, execute the notebooks, build the book")
    _add_preset(command, default="demo")
    command.add_argument("-j", "--jobs", type=int)
    command.add_argument("--device", help="as in study")
    command.add_argument("--edition", default="full", help="full, or student: without coding solutions")

    command = _add(commands, _pdf, "print the built book into one PDF (needs Chromium or Chrome)")
    command.add_argument("-o", "--output", type=Path, default=Path("_build/book.pdf"), help="default: _build/book.pdf")

    _add_assignment(_add(commands, _assignment, "the homework for a class: hand out, grade, print"))
    return parser


def _add_assignment(command):
    actions = command.add_subparsers(required=True, metavar="ACTION", dest="action")
    action = actions.add_parser("build", help="write the notebooks of the hand-out")
    action.add_argument("folder", type=Path)
    action.add_argument("--tests", type=Path, metavar="DIR", help="also make a template of hidden tests there")
    numbers = {"type": lambda text: [literal(part) for part in text.split(",")], "default": (1, 2, 3, 4)}
    action.add_argument("--questions", **numbers, help="such as 1,2,3: question 4 brings layers that solve 2 and 3")
    action.add_argument("--solutions", action="store_true", help="the solved notebooks, for the teacher")
    action = actions.add_parser("grade", help="run submissions against hidden tests")
    action.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="one per submission; files are ignored")
    action.add_argument("--questions", **numbers, help="those that are due, such as 1,2,3 (default: all)")
    _add_limits(action)
    action.add_argument("-j", "--jobs", type=int, default=1, help="submissions at a time (default 1)")
    action.add_argument("--json", type=Path, metavar="FILE", help="write the points there as well")
    action.add_argument("--csv", type=Path, metavar="FILE", help="a row per submission there, for a gradebook")
    action.add_argument("--feedback", type=Path, metavar="DIR", help="a text per submission there, for the student")
    action = actions.add_parser("gradescope", help="the grader as a zip to upload to Gradescope")
    action.add_argument("folder", type=Path, metavar="ZIP")
    _add_limits(action)
    action.add_argument("--visibility", default="after_published", help="when students see points (after_published)")


def _add_limits(action):
    action.add_argument("--tests", type=Path, metavar="DIR", help="your hidden tests (default: those of rfkit)")
    action.add_argument("--seconds", type=float, default=60, help="limit for a cell or a test (default 60)")
    action.add_argument("--memory", type=float, default=8, dest="memory_gib", help="GiB of address space (default 8)")


def _add(commands, run, text):
    command = commands.add_parser(run.__name__.removeprefix("_"), help=text, description=text)
    command.set_defaults(run=run)
    return command


def _add_analyses(command):
    text = "only these, such as pruning,fine_tune; a wrong name lists all (default: those that need a trained network)"
    command.add_argument(
        "--analyses", metavar="NAMES", type=lambda names: names.split(",") if names else None, help=text
    )


def _add_preset(command, default=None):
    command.add_argument("preset", nargs="?" if default else None, default=default, help="smoke, demo, study or paper")
    command.add_argument("--protocol", help="as_stated, as_run, careful or short")
    texts = {"precision": "bfloat16 instead of float32: autocast, for devices that are fast at it"}
    texts |= dict.fromkeys(("epochs", "width"), "instead of the preset's, a number")
    for name in (name for name in CHOICES if name != "compiled"):
        command.add_argument(f"--{name}", help=texts.get(name, "instead of the preset's; lists as 1,3"))
    command.add_argument("--compiled", action="store_true", default=None, help="training steps by torch.compile")
    command.add_argument("--contrasts", action="store_true", help="the changed networks of the contrasts instead")
    return command


def _preset(options):
    changes = {name: getattr(options, name) for name in CHOICES}
    chosen = rfkit.presets.get(options.preset, options.protocol)
    if not options.contrasts:
        return chosen.select(**changes)
    cells = {name: changes.pop(name, None) for name in ("architectures", "levels")}  # of the contrasts' own
    return rfkit.presets.of_contrasts(chosen.select(**changes)).select(**cells)


def _study(options):
    preset, names = _preset(options), options.analyses
    from rfkit.experiments import runner

    chosen, failures = rfkit.experiments.named(names), []
    if any(each.needs != "network" for each in chosen):
        units = rfkit.experiments.units(preset)
        problems = runner.damaged(units, repair=options.repair)
        if problems and not options.repair:
            way = "rfkit study with --repair moves such runs aside and makes them again"
            raise RuntimeError("\n".join([*problems, way]))
        settings = {"jobs": options.jobs, "device": options.device, "image_limit": preset.image_limit}
        failures = runner.run_all(units, analyses=names, **settings)
        print(f"{len(units) - len(failures)} of {len(units)} runs of preset {preset.name} are finished")
    for each in chosen:
        if each.needs == "network":
            made = rfkit.experiments.measure(each.name, preset, jobs=options.jobs, device=options.device, progress=True)
            print(f"{len(made)} results of {each.name} are there")
    for unit, message in failures:
        print(f"failed: {unit.config.folder}: {message}", file=sys.stderr)
    return 1 if failures else 0


def _plan(options):
    preset = _preset(options)
    rows = rfkit.experiments.plan(preset, options.device, tflops=options.tflops)
    print(f"{preset.name} ({preset.protocol}): {preset.purpose}")
    print(f"{'data set':<28}{'network':<20}{'level':>5}{'runs':>6}{'PFLOP':>10}{'disk MB':>9}{'hours':>9}")
    summed = {key: sum(row[key] for row in rows) for key in ("runs", "flops", "disk_bytes", "hours")}
    for row in (*rows, {"dataset": "all", "architecture": "", "level": ""} | summed):
        print(
            f"{row['dataset'][-26:]:<28}{row['architecture'][-18:]:<20}{row['level']:>5}{row['runs']:>6}"
            f"{row['flops'] / 1e15:>10.4g}{row['disk_bytes'] / 1e6:>9.0f}{row['hours']:>9.3g}"
        )
    if options.tflops is None:
        print("hours of one core (or of the GPU), with analyses, by float32 steps measured here; -j N divides them")
    else:
        print(f"hours of one device at {options.tflops:g} TFLOP/s, with analyses; small networks sustain less")


def _units(options):
    print(json.dumps(rfkit.experiments.jobs_of(_preset(options)), indent=1))


def _summary(options):
    preset = _preset(options)
    found, missing = rfkit.experiments.find(preset, complete=False)
    if found:
        print(rfkit.experiments.frame("pruning", found).to_csv(index=False), end="")
    if missing:
        count, way = f"{len(missing)} of {len(found) + len(missing)}", rfkit.experiments.command(preset)
        raise RuntimeError(f"{count} runs of preset {preset.name!r} are missing; run: rfkit study {way}")


def _record(options):
    preset, names = _preset(options), options.analyses
    target, copied, missing = rfkit.experiments.records_of(preset), 0, []
    weights = {word.strip() for word in options.weights.split(",")} - {""}
    for word in weights:
        one_of("seed of --weights", word, tuple(map(str, preset.seeds)))
    if any(each.needs != "network" for each in rfkit.experiments.named(names)):
        found, missing = rfkit.experiments.find(preset, complete=False)  # an analysis that is not there yet comes later
        for run in (run for run in found if not run.path.is_relative_to(target)):
            rfkit.experiments.record(run, target, names, weights=str(run.config.seed) in weights)
            copied += 1
    every = [each for each in rfkit.experiments.ANALYSES.values() if each.needs == "network"]
    chosen = [each.name for each in every if names is None or each.name in names]
    results = sum(rfkit.experiments.record_results(name, preset) for name in chosen)
    print(f"{copied} runs and {results} results copied to {target}, {len(missing)} of the preset's runs are missing")


def _ls(_):
    store = rfkit.experiments.Store()
    if not store.root.is_dir():
        print(f"rfkit: no folder {store.root} yet", file=sys.stderr)
    for run in store.runs():
        try:
            _, said = run.config, f"{run.summary['test_accuracy']:6.2f} %"
        except (RuntimeError, ValueError):
            said = " damaged"
        print(f"{said}  {run.path.parent.name}/{run.path.name}")


def _verify(options):
    every, problems = (rfkit.experiments.Store().root, *home().glob("results/*")), []
    for folder in options.folders or [path for path in every if path.is_dir()]:
        count, found = rfkit.experiments.verify(folder)
        print(f"{folder}: {count} runs and results, {len(found)} problems")
        problems += found
    for problem in problems:
        print(f"  {problem}")
    return 1 if problems else 0


def _show(options):
    runs = {f"{run.path.parent.name}/{run.path.name}": run for run in rfkit.experiments.Store().runs()}
    matches = [name for name in runs if options.name in name]
    if not matches:
        one_of("run", options.name, tuple(runs))
    if len(matches) > 1 and options.name not in matches:
        print(f"{len(matches)} runs match; name one of them:", *matches, sep="\n")
        return
    run = runs[matches[0] if len(matches) == 1 else options.name]
    for title, content in (("config", run.config.to_dict()), ("summary", run.summary), ("provenance", run.provenance)):
        print(title)
        for key, value in content.items():
            print(f"  {key}: {value}")
    for name in sorted(path.name for path in run.path.glob("analysis/*")):
        print(f"analysis {name}")


def _notebook(options):
    output = options.output or Path("_build/notebooks") / f"{options.name}.ipynb"
    start = time.perf_counter()
    rfkit.book.execute(options.name, output, rfkit.book.parse(options.parameter))
    print(f"{output} ({time.perf_counter() - start:.0f} s)")


def _table(options):
    table = rfkit.tables.paper_table(options.number, options.preset)
    ours = [name for name in table if not name.startswith("paper_") and name.endswith("_mean")]
    if table[ours].isna().all(axis=None):
        print(f"rfkit: no finished run of preset {options.preset} belongs in table {options.number}", file=sys.stderr)
    print(rfkit.tables.text(table, options.form).rstrip())


def _field(options):
    model = rfkit.models.build(options.architecture, options.level).eval()
    shape = literal(options.input)
    fields = rfkit.receptive_field.trace(model, tuple(shape) if isinstance(shape, list) else shape)
    if not fields:
        raise ValueError(f"{options.architecture} makes no spatial feature map of images of {options.input}")
    more = ("size", "stride", "center", "aligned", "statistics")
    rows = [{"layer": f.name, "output": f.shape} | {name: getattr(f, name) for name in more} for f in fields]
    if options.json:
        # JSON knows no infinity: null stands for the whole image
        finite = [row | {"size": [s if math.isfinite(s) else None for s in row["size"]]} for row in rows]
        print(json.dumps(finite, indent=1))
        return
    width = max(len(row["layer"]) for row in rows)
    print(f"{'layer':<{width}}  {'output':>11}  {'RF (px)':>13}  {'stride':>9}  {'centre of unit 0':>17}")
    for row in rows:
        output, size, stride = ("x".join(f"{n:g}" for n in row[key]) for key in ("output", "size", "stride"))
        center = ", ".join(f"{c:g}" for c in row["center"])
        flag = "" if row["aligned"] else "  branches not aligned: union"
        flag += "  + statistics of the whole image" if row["statistics"] else ""
        print(f"{row['layer']:<{width}}  {output:>11}  {size:>13}  {stride:>9}  {center:>17}{flag}")


def _book(options):
    preset = _preset(options)
    if not Path("_config.yml").is_file():
        raise ConfigError(f"no _config.yml in {Path.cwd()}; run rfkit book from the top folder of the project")
    if options.contrasts:
        raise ConfigError("every book has the contrasts; run rfkit study with --contrasts, then rfkit book")
    rfkit.book.build(preset, jobs=options.jobs, device=options.device, edition=options.edition)


def _pdf(options):
    if not Path("_toc.yml").is_file():
        raise ConfigError(f"no _toc.yml in {Path.cwd()}; run rfkit pdf from the top folder of the project")
    print(rfkit.book.to_one_pdf(Path("_build/html"), options.output))


def _assignment(options):
    from rfkit.homework import editions, gradescope, grading

    if options.action == "build":
        chosen = {"questions": options.questions, "solutions": options.solutions}
        for path in editions.build(options.folder, options.tests, **chosen):
            print(path)
    elif options.action == "gradescope":
        limits = {name: getattr(options, name) for name in ("visibility", "seconds", "memory_gib")}
        print(gradescope.build(options.folder, options.tests, **limits))
    else:
        limits = {name: getattr(options, name) for name in ("jobs", "questions", "seconds", "memory_gib")}
        if not any(folder.is_dir() for folder in options.folders):
            raise ConfigError(f"no folder {options.folders[0]}; expected folders of submissions")
        graded, before = [], grading.gradebook([], read_csv(options.csv)) if options.csv else []
        known = {row["submission"] for row in before}
        for folder, each in grading.grade_all(options.folders, options.tests, known=known, **limits):
            if each is None:
                print(f"rfkit: {folder} is no folder of a submission; left out", file=sys.stderr)
                continue
            graded.append(each)
            print(grading.table(each), flush=True)
            if options.json:  # after each, so that nothing graded is lost
                write_json(options.json, graded)
            if options.csv:
                write_csv(options.csv, grading.gradebook(graded, before))
            if options.feedback:
                write_bytes(options.feedback / f"{each['submission']}.txt", (grading.table(each) + "\n").encode())
