"""The corpus of bad inputs: what was spoilt, what is typed, and what the one sentence of an answer has to name."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from bad_inputs import (
    CONFIG,
    IMAGE,
    MASK,
    PART,
    PHOTOS,
    STORE,
    TABLE,
    WEIGHTS,
    Build,
    all_of,
    bomb,
    control_characters,
    copy,
    cut,
    damaged,
    defects,
    every_image_of,
    folder,
    forbid,
    frames,
    harm,
    harm_zipped,
    link,
    no_utf8,
    nothing,
    other_network,
    remove,
    save,
    sql,
    transparent_mask,
    write,
)

OTHER = IMAGE.with_name("x.png")
PAGES = IMAGE.with_name("x.tif")


class Case(NamedTuple):
    """One bad input.

    Attributes:
        name: of the test.
        spoil: what is done to the folder before.
        typed: the arguments, after those that make it a run on `photos/part`.
        culprit: words that say what is wrong.
        remedy: words that say what to do.
        code: the exit code.
        obedient: whether what permissions forbid is forbidden to root too.
    """

    name: str
    spoil: Build
    typed: str
    culprit: str
    remedy: str
    code: int = 1
    obedient: bool = False


NO_IMAGE = "000.png cannot be read as an image"
IMAGES = [
    Case("truncated", cut(IMAGE), "", f"{NO_IMAGE} (image file is truncated)", "replace the file"),
    Case("zero bytes", write(IMAGE, b""), "", f"{NO_IMAGE} (it is none", "replace the file"),
    Case("text", write(IMAGE, "a note"), "", f"{NO_IMAGE} (it is none", "replace the file"),
    Case("postscript", write(IMAGE, "%!PS-Adobe-3.0 EPSF-3.0\n"), "", f"{NO_IMAGE} (it is none", "replace the file"),
    Case("bomb", bomb, "", "000.png is too large (3600 megapixels", "scale it down or cut it"),
    Case("animated gif", frames(IMAGE, format="GIF"), "", "000.png holds several frames", "save each in a file"),
    Case("animated png", frames(IMAGE), "", "000.png holds several frames", "save each in a file"),
    Case("pages", frames(PAGES), "", "x.tif holds several frames or pages", "save each in a file"),
    Case("floats", save([[0.5]], PAGES, "float32"), "", "x.tif holds floating-point pixels", "save it as PNG"),
    Case("32 bits", save([[0, 70_000]], PAGES, "int32"), "", "x.tif holds pixels from 0 to 70000", "save it as PNG"),
    Case(
        "12 bits in 16", every_image_of(12), "", "part has 16-bit images that are darker", "multiply their pixels by 16"
    ),
    Case(
        "dangling link", link(OTHER, "gone.png"), "", "x.png is a link that leads nowhere", "restore what it points to"
    ),
    Case("looping link", link(OTHER, "x.png"), "", "x.png is a link that leads nowhere", "or remove it"),
    Case(
        "looping folder", link(PART / "test" / "loop", "../test"), "", "loop/crack is a folder too deep", "move them up"
    ),
    Case("control characters", control_characters, "", r"'\x1b]0;gotcha\x07.png'", "rename it"),
    Case("no encoding", no_utf8, "", r"whose name is not UTF-8, \xfftile.png", "rename it"),
    Case("no permission", forbid(IMAGE), "", "000.png cannot be read (Permission denied)", "check", obedient=True),
    Case("closed folder", forbid(IMAGE.parent), "", "train/good", "change its permissions", obedient=True),
]

SAVED = "save the mask without transparency"
MASKS = [
    Case("size", save([[255]], MASK), "", "000_mask.png is 1×1 but its image is 24×16", "make them the same size"),
    Case("transparent", transparent_mask, "", "000_mask.png has transparent pixels", "save the mask without"),
    Case("floats", save([[0.5]], MASK.with_name("000_mask.tif"), "float32"), "", "floating-point", "8 bits"),
    Case("text", write(MASK, "a note"), "", "000_mask.png cannot be read as an image", "replace the file"),
    Case("colours", defects(pixel_value=7), "", "000_mask.png has pixel value 255, unknown to", "or add the value"),
    Case("without image", copy(MASK, MASK.with_name("009.png")), "", "009.png belongs to no image", "or remove it"),
    Case(
        "missing",
        remove(MASK),
        "",
        "000.png has no mask, though other images of the category have",
        "add ground_truth/crack/000",
    ),
]

GOOD, CRACK = PART / "test" / "good", PART / "test" / "crack"
FOLDERS = [
    Case("no train", remove(PART / "train"), "", "train/good has no image", "put defect-free images there"),
    Case("good only", remove(CRACK), "", "test/<defect> has no image", "put some there"),
    Case("defects only", remove(GOOD), "", "test/good has no image", "put some there"),
    Case(
        "trained and tested",
        copy(IMAGE, GOOD / "c.png"),
        "",
        "good/000.png and test/good/c.png are the same",
        "remove one",
    ),
    Case(
        "two labels", copy(CRACK / "000.png", GOOD / "c.png"), "", "labelled good and anomalous", "remove the wrong one"
    ),
    Case(
        "defects in train",
        copy(IMAGE, PART / "train/crack/0.png"),
        "",
        "train/crack holds 1 images",
        "move them to test",
    ),
    Case(
        "no layout",
        remove(PART / "train" / "good"),
        "dataset.root=photos/part category=train",
        "'train' is empty",
        "the layout is",
    ),
    Case(
        "not there",
        nothing,
        "dataset.root=foto",
        "The data set folder foto does not exist",
        "give another dataset.root",
    ),
    Case("looping root", link(Path("loop"), "loop"), "dataset.root=loop", "folder loop does not exist", "give another"),
    Case(
        "file as root", write(Path("f"), ""), "dataset.root=f", "The data set folder f does not exist", "give another"
    ),
    Case("category", nothing, "category=prat", "There is no category 'prat' under photos", "it has part"),
    Case("no category", nothing, "category=null", "No category is chosen", "give category=NAME"),
    Case(
        "out of the root",
        nothing,
        "category=../photos/part",
        "category='../photos/part' leads out",
        "one of its folders",
    ),
    Case("absolute", nothing, "category=/etc", "category='/etc' leads out of the data set", "one of its folders"),
    Case(
        "reference",
        folder(Path("photos", "${oc.env:HOME}", "train")),
        "-m category=all",
        "${oc.env:HOME} has ${",
        "rename the folder",
    ),
]

TYPE = "a list of objects with defect_name, pixel_value"
CONFIGS = [
    Case("no json", write(CONFIG, "{"), "", "defects_config.json is malformed (Expecting", TYPE),
    Case("deep json", write(CONFIG, "[" * 100_000), "", "defects_config.json is malformed (maximum recursion", TYPE),
    Case("other json", write(CONFIG, "null"), "", "defects_config.json is malformed ('NoneType'", TYPE),
    Case("lacking", defects(pixel_value=...), "", "defects_config.json is malformed ('pixel_value' is missing)", TYPE),
    Case("nan", defects(saturation_threshold=float("nan")), "", "malformed (value out of range", TYPE),
    Case("true", defects(pixel_value=True), "", "defects_config.json is malformed (wrong type", TYPE),
    Case("folder", folder(CONFIG), "", "defects_config.json is malformed ([Errno 21] Is a directory", TYPE),
    Case("none", nothing, "dataset.layout=autovi", "defects_config.json is missing", "restore it"),
    Case(
        "table",
        write(TABLE, "picture,camera\na,b\n"),
        "",
        "metadata.csv needs the column `image`",
        "separated by commas",
    ),
    Case(
        "row", write(TABLE, "image\ntest/good/7.png\n"), "", "row 2: there is no image test/good/7.png", "names are as"
    ),
    Case(
        "encoding", write(TABLE, "image".encode("utf-16")), "", "metadata.csv cannot be read as a table", "CSV in UTF-8"
    ),
    Case("column", nothing, "dataset.select={camera:left}", "metadata.csv has no column 'camera'", "or add this one"),
]

WHOLE = "give a whole number"
SETTINGS = [
    Case("key", nothing, "metod=padim", "There is no setting metod", "did you mean method?"),
    Case(
        "method's key",
        nothing,
        "method.layer=[layer1]",
        "There is no setting method.layer",
        "did you mean method.layers?",
    ),
    Case(
        "another method's key",
        nothing,
        "method=padim method.fdfa=true",
        "method.fdfa is a setting of other methods (radl",
        "--cfg job",
    ),
    Case("added key", nothing, "+seeds=3", "There is no setting seeds", "did you mean seed?"),
    Case("group", nothing, "method=patchcor", "There is no method=patchcor", "did you mean patchcore?"),
    Case("no value", nothing, "method=", "There is no method=", "choose one of"),
    Case("experiment", nothing, "-m experiment=radl_setting", "There is no experiment=radl_setting", "radl_settings?"),
    Case("seed", nothing, "seed=abc", "seed=abc", WHOLE),
    Case("fractional seed", nothing, "seed=1.5", "seed=1.5", WHOLE),
    Case("negative seed", nothing, "seed=-1", "seed=-1 is not possible", "from 0 to 4294967295"),
    Case("huge seed", nothing, "seed=99999999999999999999", "seed=99999999999999999999", "from 0 to 4294967295"),
    Case("negative epochs", nothing, "method.epochs=-5", "method.epochs=-5 is not possible", f"{WHOLE} of at least 1"),
    Case(
        "no epochs", nothing, "trainer.max_epochs=0", "trainer.max_epochs=0 is not possible", f"{WHOLE} of at least 1"
    ),
    Case("workers", nothing, "trainer.workers=-1", "trainer.workers=-1 is not possible", f"{WHOLE} of at least 0"),
    Case("yes and no", nothing, "quick=maybe", "quick=maybe", "give true or false"),
    Case("null", nothing, "preprocess.size=null", "preprocess.size=null", "give a value"),
    Case("list", nothing, "preprocess=window preprocess.window=3", "preprocess.window=3", "give a list"),
    Case(
        "window",
        nothing,
        "preprocess=window preprocess.window=[99,9]",
        "window=[99,9] (width, height) does not fit",
        "shrink it",
    ),
    Case("mode", nothing, "preprocess.mode=paad", "preprocess.mode=paad is not possible", "choose one of resize"),
    Case("fold", nothing, "protocol=kfold protocol.fold=10", "protocol.fold=10 is not possible", "from 0 to 9"),
    Case("shots", nothing, "protocol=few_shot protocol.shots=9", "fewer than protocol.shots=9", "give fewer, or all"),
    Case("several runs", nothing, "seed=0,1", "seed=0,1 asks for several runs", "add -m"),
    Case("no assignment", nothing, "padim", "padim", "write key=value"),
    Case("brackets", nothing, "'method.layers=[layer1'", "method.layers=[layer1", "write key=value"),
    Case("brackets of a grid", nothing, "-m 'seed=range(8'", "seed=range(8 cannot be read", "write key=value"),
    Case("interpolation", nothing, "'method.epochs=${nope}'", "${nope} stands for no setting", "check what is written"),
    Case("another launcher", nothing, "launcher.minutes=3", "launcher.minutes", "give launcher=slurm too"),
    Case("options", nothing, "backbone.options.pad_type=same", "has no value here yet", "+backbone.options.pad_type="),
    Case("flag", nothing, "--dry-run", "--dry-run", "--help"),
    Case("folder of settings", nothing, "--config-dir=nowhere", "nowhere", "--config-dir"),
    Case("no module", nothing, "method.model=os.system", "os.system is no AnomalibModule", "give package.module.Class"),
    Case("no network", nothing, "backbone.name=resnet19", "backbone.name=resnet19 is not a network of timm", "resnet1"),
]

WEIGHT = f"backbone.weights={WEIGHTS}"
SAFE = "backbone.weights=weights.safetensors"
CODE = "Weights weights.pth are not tensors alone"
STATES = [
    Case("not there", nothing, WEIGHT, "backbone.weights=weights.pth is neither", "check the path"),
    Case("folder", folder(WEIGHTS), WEIGHT, "backbone.weights=weights.pth is neither", "check the path"),
    Case("text", write(WEIGHTS, "a note"), WEIGHT, "Weights weights.pth", "give a state dict"),
    Case("truncated", all_of(harm_zipped, cut(WEIGHTS)), WEIGHT, "Weights weights.pth", "give a state dict"),
    Case("other network", other_network, SAFE, "weights.safetensors do not fit", "choose the network"),
    Case("code", harm, WEIGHT, CODE, "holds code, which is never run; give a state dict"),
    Case("code in a zip", harm_zipped, WEIGHT, f"{CODE} (posix.mkdir)", "give a state dict"),
    Case("damaged", write(Path("weights.safetensors"), b"\xff" * 99), SAFE, "weights.safetensors", "give a state"),
    Case("dictionary", harm, "method=dsr weights.dsr_dictionary=weights.pth weights.dtd=random", CODE, "give a state"),
]

SECRET = "http://me:s3cret@127.0.0.1:9"
STORES = [
    Case(
        "newer",
        sql("UPDATE alembic_version SET version_num = 'abcdef'"),
        "",
        "another version of MLflow",
        "mlflow db upgrade",
    ),
    Case(
        "older",
        sql("UPDATE alembic_version SET version_num = '728d730b5ebd'"),
        "",
        "schema 728d730b5ebd",
        "mlflow db upgrade",
    ),
    Case("text", write(STORE, "a note" * 99), "", "no SQLite database", "name another store with tracking.uri"),
    Case("truncated", cut(STORE), "", "it is damaged", "restore it from a backup"),
    Case("damaged", damaged(STORE), "", "it is damaged", "restore it from a backup"),
    Case(
        "of another program",
        all_of(remove(STORE), sql("CREATE TABLE orders (id)")),
        "",
        "database of something else",
        "tracking.uri",
    ),
    Case(
        "folder",
        folder(Path("x")),
        "tracking.uri=sqlite:///x",
        "sqlite:///x cannot be opened",
        "sqlite:///FOLDER/mlflow.db",
    ),
    Case(
        "file as directory",
        write(Path("x"), ""),
        "tracking.directory=x",
        "sqlite:///x/mlflow.db cannot be opened",
        "give another",
    ),
    Case(
        "read only", forbid(Path("runs"), 0o555), "", "runs/locks cannot be written", "make it writable", obedient=True
    ),
    Case("no server", nothing, f"tracking.uri={SECRET} tracking.patience=0", "http://***@127.0.0.1:9", "start it"),
    Case(
        "no database server",
        nothing,
        "tracking.uri=postgresql://me:s3cret@127.0.0.1:9/a",
        "postgresql://***@127.0.0.1:9/a",
        "start it" if find_spec("psycopg2") or find_spec("psycopg") else "pip install",
    ),
    Case(
        "kind",
        nothing,
        "tracking.uri=ftp://127.0.0.1/a",
        "MLflow knows no such kind of store",
        "give tracking.uri=sqlite",
    ),
    Case(
        "mlruns", nothing, "tracking.uri=mlruns", "a folder, which MLflow no longer takes", "give tracking.uri=sqlite"
    ),
    Case("none", nothing, "tracking.uri=", "tracking.uri= is not possible", "give tracking.uri=sqlite"),
]

SETTINGS_FOLDER = Case("settings", nothing, "--config-dir=nowhere", "There is no folder nowhere", "check --config-dir")
NO_FOLDER_NAMED = Case("no settings", nothing, "--config-dir", "--config-dir/-cd cannot be read", "--help")
REPORTS = [
    Case("metric", nothing, "tables=[image_aurok]", "No run has the metric image_aurok", "did you mean image_auroc?"),
    Case("experiment", nothing, "experiment=radl", "has no experiment 'radl'", "it has: adhoc"),
    Case("option", nothing, "experimnt=toy", "'experimnt=toy' is no option of the report", "did you mean experiment?"),
    Case("correction", nothing, "correction=bonferroni", "correction=bonferroni is not possible", "give holm or bh"),
    Case("yes and no", nothing, "strict=maybe", "strict=maybe is not possible", "give true or false"),
    Case(
        "filter",
        nothing,
        "'filter=method is radl'",
        "filter=method is radl is not possible",
        "tags.harness.method = 'radl'",
    ),
    Case(
        "older", sql("ALTER TABLE params RENAME value TO content"), "", "tables are none of this", "mlflow db upgrade"
    ),
    Case(
        "no store",
        nothing,
        "tracking.directory=elsewhere",
        "no MLflow store at elsewhere/mlflow.db",
        "run `python -m harness`",
    ),
    Case("kind", nothing, "tracking.uri=ftp://127.0.0.1/a", "MLflow knows no such kind", "give tracking.uri=sqlite"),
    Case("text", write(Path("x.db"), "a note" * 99), "tracking.uri=sqlite:///x.db", "no SQLite database", "restore it"),
    Case(
        "other",
        sql("CREATE TABLE a (b)", path=Path("x.db")),
        "tracking.uri=sqlite:///x.db",
        "x.db is no MLflow store",
        "name the",
    ),
    Case("no server", nothing, f"tracking.uri={SECRET}", "http://***@127.0.0.1:9 cannot be reached", "start it"),
    Case(
        "file",
        write(Path("reports"), ""),
        "",
        "The report cannot be written to reports/all",
        "choose another reports_dir",
    ),
    Case("read only", forbid(Path("."), 0o555), "", "The report cannot be written to", "choose another", obedient=True),
    SETTINGS_FOLDER,
    Case("explain", nothing, "explain method=radl", "There is no method=radl", "possible are: padim"),
]
TUNE = PHOTOS
TUNINGS = [
    SETTINGS_FOLDER,
    Case("option", nothing, "tune.trails=3", "tune.trails=3 is no option of the tuning", "did you mean tune.trials?"),
    Case("trials", nothing, "tune.trials=-1", "tune.trials=-1 is not possible", "a whole number of at least 1"),
    Case("number", nothing, "tune.trials=few", "tune.trials=few is not possible", WHOLE),
    Case("objective", nothing, "tune.objective=auroc", "tune.objective=auroc is not possible", "val/"),
    Case("several", nothing, f"{TUNE} seed=0,1", "seed=0,1 asks for several runs", "one of each"),
    Case("search", nothing, f"{TUNE} tune.search=x.yaml", "tune.search=x.yaml: there is no such file", "check"),
    Case(
        "code",
        write(Path("x.yaml"), "a: !!python/object/apply:os.mkdir [harmed]\n"),
        f"{TUNE} tune.search=x.yaml",
        "x.yaml",
        "YAML",
    ),
]
CHECKS = [
    Case("command", nothing, "chekc", "Usage: python -m harness.data check", "dataset.root=FOLDER", code=2),
    Case(
        "root",
        nothing,
        "check dataset=folder dataset.root=foto",
        "folder foto does not exist",
        "another dataset.root",
        code=2,
    ),
    SETTINGS_FOLDER._replace(typed="--config-dir=nowhere check dataset=toy", code=2),
    Case("flag", nothing, "--strict check dataset=toy", "'--strict' is no option of the check", "--help", code=2),
    Case("group", nothing, "check dataset=mvtec", "There is no dataset=mvtec", "did you mean mvtec_ad?", code=2),
]


CORPUS = {
    ("image", "harness"): IMAGES,
    ("mask", "harness"): MASKS,
    ("folder", "harness"): FOLDERS,
    ("file", "harness"): CONFIGS,
    ("setting", "harness"): SETTINGS,
    ("weights", "harness"): STATES,
    ("store", "harness"): STORES,
    ("report", "harness.report"): REPORTS,
    ("tuning", "harness.tune"): TUNINGS,
    ("check", "harness.data"): CHECKS,
    ("status", "harness.status"): [SETTINGS_FOLDER, NO_FOLDER_NAMED],
    ("audit", "harness.audit"): [SETTINGS_FOLDER, NO_FOLDER_NAMED],
}  # kind of input, module whose command line it is -> cases
