//! Replays the inputs that fuzzing has saved: what must hold for any input holds for each of them.

#[path = "../fuzz/properties.rs"]
mod properties;

/// The saved inputs of a target.
fn inputs(target: &str) -> Vec<(std::path::PathBuf, String)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let entries = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let inputs: Vec<_> = entries.map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect();
    assert!(inputs.len() >= 20, "{}: only {} inputs", folder.display(), inputs.len());
    inputs
}

fn replay(target: &str, property: fn(&str)) {
    for (path, text) in inputs(target) {
        println!("{}", path.display());
        property(&text);
    }
}

#[test]
fn saved_dockerfiles() {
    replay("dockerfile_parse", properties::dockerfile_parse);
}

#[test]
fn saved_words() {
    replay("dockerfile_words", properties::dockerfile_words);
}

#[test]
fn saved_ignore_files() {
    replay("ignore_file", properties::ignore_file);
}

#[test]
fn saved_compose_files() {
    replay("compose_yaml", properties::compose_yaml);
}

#[test]
fn saved_values() {
    replay("compose_interpolation", properties::compose_interpolation);
}

#[test]
fn saved_env_files() {
    replay("compose_env_file", properties::compose_env_file);
}

#[test]
fn saved_git_indexes() {
    replay("git_index", properties::git_index);
}
