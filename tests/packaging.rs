//! What containers are made of: the Dockerfile, the compose file with its seccomp profile, and the
//! Helm chart, checked by hadolint, by Helm, and by a broker under the profile.

use std::{fs, path::Path, process::Command};

const PYTHON: &str = "target/foreign/packaging/bin/python";

#[test]
fn the_container_and_the_chart_are_as_their_tools_and_the_broker_want_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    assert!(root.join(PYTHON).exists(), "please run scripts/test.sh, which installs {PYTHON}");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packaging");
    fs::create_dir_all(&folder).unwrap();
    let output = Command::new(root.join(PYTHON))
        .arg("tests/packaging/check.py")
        .arg(env!("CARGO_BIN_EXE_ringmq"))
        .arg(&folder)
        .current_dir(root)
        .output()
        .unwrap();
    let words = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success() && words[0].contains("all is well"), "{}", words.concat());
}
