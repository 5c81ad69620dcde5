//! Any text parses or is refused with places inside it; what parses can be checked.

#![no_main]

use libfuzzer_sys::fuzz_target;
use shipway::base::diag::SourceFile;
use shipway::dockerfile::{Facts, lint, parse};

fuzz_target!(|text: &str| {
    let file = SourceFile::new("Dockerfile", text);
    let shown = match parse(&file) {
        Ok(dockerfile) => lint::check(&dockerfile, &Facts::of_file(&dockerfile), &|path| path.len() % 2 == 0),
        Err(mistakes) => mistakes,
    };
    for diagnostic in shown {
        if let Some((span, _)) = &diagnostic.place {
            assert!(text.get(span.range.clone()).is_some(), "{:?}", span.range);
        }
        assert!(!diagnostic.render(false).is_empty());
    }
});
