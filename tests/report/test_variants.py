"""Which runs are variants of a method, and what they are called."""

from harness.report.names import tell_apart
from harness.report.variants import Setting, label_order, label_variants, settings

HCE = {"method.loss": "hce", "method.fdfa": "true", "method.tau": "0.5"}
L1 = {"method.loss": "truncated_l1", "method.fdfa": "false", "method.tau": "0.5"}


def test_one_configuration_has_no_suffix() -> None:
    variants = label_variants([Setting("radl", "toy", HCE)] * 2 + [Setting("patchcore", "toy", {"x": "1"})])
    assert variants.labels == ["radl", "radl", "patchcore"]
    assert variants.base == {}


def test_suffix_names_only_what_differs_from_the_most_common() -> None:
    half = HCE | {"method.fdfa": "false"}
    variants = label_variants([Setting("radl", "toy", s) for s in (L1, HCE, half, HCE)])
    assert variants.labels == ["radl (fdfa=false, loss=truncated_l1)", "radl", "radl (fdfa=false)", "radl"]
    assert variants.base == {"radl": {"fdfa": "true", "loss": "hce"}}


def test_ties_go_to_the_first_alphabetical() -> None:
    runs = [Setting("radl", "toy", HCE), Setting("radl", "toy", L1)]
    assert label_variants(runs).labels == ["radl (fdfa=true, loss=hce)", "radl"]
    assert label_variants(runs[::-1]).labels == ["radl", "radl (fdfa=true, loss=hce)"]


def test_what_goes_with_the_data_set_is_no_variant() -> None:
    pad, resize = {"preprocess.mode": "pad"}, {"preprocess.mode": "resize"}
    apart = label_variants([Setting("radl", "mtd", HCE | pad), Setting("radl", "mvtec_ad", HCE | resize)])
    assert apart.labels == ["radl", "radl"]
    assert apart.by_dataset == {"radl": {"preprocess.mode": {"mtd": "pad", "mvtec_ad": "resize"}}}
    within = [Setting("radl", "mtd", HCE | s) for s in (pad, pad, resize)]
    assert label_variants(within).labels == ["radl", "radl", "radl (mode=resize)"]


def test_ambiguous_names_are_spelt_out_and_missing_ones_are_unset() -> None:
    runs = [{"a.mode": "1", "b.mode": "1"}, {"a.mode": "1", "b.mode": "1"}, {"a.mode": "2"}]
    assert label_variants([Setting("m", "toy", s) for s in runs]).labels[2] == "m (a.mode=2, b.mode=unset)"
    names = [{"backbone.name": "r18", "protocol.name": "x"}] * 2 + [{"backbone.name": "r50", "protocol.name": "y"}]
    assert label_variants([Setting("m", "toy", s) for s in names]).labels[2] == "m (backbone=r50, protocol=y)"


def test_settings_leave_out_what_changes_no_number() -> None:
    params = {
        "method.name": "radl",
        "method.loss": "hce",
        "method.fdfa": "True",
        "method.epochs": "40",
        "trainer.max_epochs": "12",
        "trainer.workers": "2",
        "trainer.precision": "32-true",
        "dataset.root": "/somewhere",
        "seed": "3",
        "category": "bottle",
        "tracking.uri": "sqlite:///x.db",
        "backbone.weights": "/a/path.safetensors",
        "metrics.heatmaps": "8",
        "metrics.resolution": "native",
    }
    assert settings(params, "r18:abc") == {
        "method.loss": "hce",
        "method.fdfa": "true",
        "metrics.resolution": "native",
        "epochs": "12",
        "trainer.precision": "32-true",
        "weights": "r18:abc",
    }
    assert settings(params | {"trainer.max_epochs": "None"}, "")["epochs"] == "40"


def test_augmentation_and_half_precision_are_settings_only_where_they_are_chosen() -> None:
    plain = {"augment.rotation": "0.0", "augment.rotation_p": "0.5"}
    plain |= {"augment.noise_variance": "[0.0, 0.0]", "augment.noise_p": "0.5"}
    plain |= {"features.dtype": "float32", "features.store": "disk", "method.frozen": "model.features"}
    assert settings(plain, "") == settings({}, "")  # as the runs of older versions, which had none of them
    turned = settings(plain | {"augment.rotation": "15.0"}, "")
    assert turned == {"augment": "rotation 15 p 0.5", "weights": ""}
    assert settings(plain | {"features.dtype": "float16"}, "")["features.dtype"] == "float16"
    assert settings(plain | {"features.dtype": "float16", "features.store": "off"}, "") == settings({}, "")


def test_options_that_are_not_given_make_no_variant_of_older_runs() -> None:
    old, new = {"backbone.name": "resnet18"}, {"backbone.name": "resnet18", "backbone.options": "{}"}
    assert settings(old, "w") == settings(new, "w")
    assert settings(new | {"backbone.options.pad_type": "same"}, "w") != settings(old, "w")
    unset = {"preprocess.grey": "False", "protocol.name": "one_class", "protocol.shots": "None"}
    unset |= {"protocol.validation": "None", "protocol.synthetic": "None", "method.least_size": "32"}
    assert settings(old | unset, "w") == settings(old, "w")
    assert settings(old | {"preprocess.grey": "True"}, "w")["preprocess.grey"] == "true"


def test_what_a_protocol_changes_about_the_training_is_a_setting() -> None:
    share = {"protocol.name": "validated_synthetic", "protocol.validation": "0.15", "protocol.synthetic": "True"}
    assert settings(share, "") == {"protocol.validation": "0.15", "protocol.synthetic": "true", "weights": ""}
    assert settings({"protocol.name": "few_shot", "protocol.shots": "all"}, "")["protocol.shots"] == "all"
    other = {"protocol.name": "supervised", "protocol.validation": "0.15", "protocol.test": "0.15"}
    assert settings(other, "") == {"protocol.name": "supervised", "protocol.validation": "0.15", "weights": ""}
    folds = {"protocol.name": "kfold", "protocol.folds": "10", "protocol.fold": "3"}
    assert settings(folds, "") == {"weights": ""}  # the data set is named after it


def test_methods_of_two_protocols_that_test_the_same_images_stand_beside_each_other() -> None:
    """Paper 004, Table 3: supervised and unsupervised methods on one test set."""
    shares = {"protocol.validation": "0.15", "protocol.test": "0.15"}

    def of(method: str, protocol: str) -> Setting:
        params = shares | {"protocol.name": protocol}
        records = [{"params": params, "protocol": protocol, "dataset": "vin", "category": "c", "data_fingerprint": "f"}]
        tell_apart(records)
        return Setting(method, records[0]["dataset"], settings(params, ""))

    runs = [of("auto_classifier", "supervised"), of("patchcore", "validated"), of("padim", "validated")]
    assert {run.dataset for run in runs} == {"vin (0.15 of the images tested)"}
    assert label_variants(runs).labels == ["auto_classifier", "patchcore", "padim"]
    both = label_variants([*runs, of("padim", "supervised")]).labels
    assert both[2:] == ["padim (protocol=validated)", "padim (protocol=supervised)"]


def test_labels_are_ordered_by_value() -> None:
    labels = ["m (x=16)", "m (x=all)", "m2", "m (x=2)", "m", "m (x=0.5)", "m (x=1e-05)"]
    assert label_order(labels) == ["m", "m (x=1e-05)", "m (x=0.5)", "m (x=2)", "m (x=16)", "m (x=all)", "m2"]
