//! Any text as `.env`, as an `env_file`, and as one of the raw kind.
#![no_main]

use std::collections::BTreeMap;
use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use shipway::compose::{Options, load};

fuzz_target!(|text: &str| {
    let project = "services:\n  a: {image: 'x${A}', env_file: e}\n  b: {image: x, env_file: [{path: e, format: raw}]}\n";
    for name in [".env", "e"] {
        let files = BTreeMap::from([
            (PathBuf::from("/p/compose.yaml"), project.to_owned()),
            (PathBuf::from("/p/e"), String::new()),
            (PathBuf::from("/p").join(name), text.to_owned()),
        ]);
        let _ = load(&Options::new("/p"), &files);
    }
});
