//! Any text as a value with variables. One whose dollars are doubled comes back as it was.
#![no_main]

use std::collections::BTreeMap;
use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use shipway::compose::{Options, load};

fuzz_target!(|text: &str| {
    let project = |value: &str| {
        let value = serde_json::Value::String(value.to_owned());
        let text = format!("services: {{a: {{image: x, labels: {{l: {value}}}}}}}");
        let files = BTreeMap::from([(PathBuf::from("/p/compose.yaml"), text)]);
        let mut options = Options::new("/p");
        options.environment.insert("A".to_owned(), "value".to_owned());
        options.environment.insert("B".to_owned(), String::new());
        load(&options, &files)
    };
    let _ = project(text);
    // Slashes are written bare and control characters escaped: any text can be a value.
    if let Ok(loaded) = project(&text.replace('$', "$$")) {
        assert_eq!(loaded.project.services["a"].labels["l"], text);
    }
});
