//! Any text as a compose file: it loads or is refused, never anything else, and what is printed loads to the
//! same project.
#![no_main]

use std::collections::BTreeMap;
use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use shipway::compose::{Options, load, outline, to_json, to_yaml};

fuzz_target!(|text: &str| {
    let files = |text: String| BTreeMap::from([(PathBuf::from("/p/compose.yaml"), text)]);
    let options = Options { services: Vec::new(), ..Options::new("/p") };
    let _ = outline(&options, &files(text.to_owned()));
    let Ok(loaded) = load(&options, &files(text.to_owned())) else { return };
    let json = to_json(&loaded.project);
    let mut again = Options::new("/p");
    again.profiles.push("*".to_owned());
    let reloaded = load(&again, &files(to_yaml(&loaded.project)));
    if let Ok(reloaded) = reloaded {
        assert_eq!(to_json(&reloaded.project), json);
    }
});
