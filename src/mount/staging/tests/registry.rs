use super::*;
use crate::format::clock;
use crate::format::id::{EventId, ManifestId};
use crate::format::name::{ArtifactKey, VersionNumber};

fn key(text: &str) -> ArtifactKey {
    text.parse().unwrap()
}

fn open(dir: &TempDir) -> SessionRegistry {
    SessionRegistry::open(dir.path(), clock::system()).unwrap()
}

#[test]
fn what_is_registered_is_there_at_the_next_open() {
    let dir = tempfile::tempdir().unwrap();
    let name = "exp".parse().unwrap();
    let lower = LowerVersion { manifest: ManifestId::of(b"m"), number: VersionNumber(3) };
    let commit = EventId::from_bytes([7; 16]);
    let (plain, named) = {
        let registry = open(&dir);
        let plain = registry.get_or_create(&key("p/a"), None).unwrap();
        assert_eq!(registry.get_or_create(&key("p/a"), None).unwrap(), plain);
        let named = registry.create(&key("p/a"), Some(&name), Some(lower)).unwrap();
        assert_ne!(plain.id, named.id);
        registry.set_commit_id(plain.id, Some(commit)).unwrap();
        registry.set_lower(plain.id, Some(lower)).unwrap();
        assert!(!registry.set_setting(plain.id, "user.artfs.next.message", Some(b"\xff\x00hi")).unwrap());
        assert!(!registry.set_setting(plain.id, "user.artfs.next.ttl", Some(b"1d")).unwrap());
        assert!(registry.set_setting(plain.id, "user.artfs.next.ttl", None).unwrap());
        registry.add_local_name(&key("p/a").project, None).unwrap();
        registry.add_local_name(&key("p/a").project, Some(&key("p/a").name)).unwrap();
        (plain.id, named)
    };
    let registry = open(&dir);
    let found = registry.get(plain).unwrap();
    assert_eq!((found.lower, found.commit_id, found.name), (Some(lower), Some(commit), None));
    let settings = BTreeMap::from([("user.artfs.next.message".to_owned(), b"\xff\x00hi".to_vec())]);
    assert_eq!(found.settings, settings);
    assert_eq!(registry.find(&key("p/a"), Some(&name)).unwrap(), Some(named));
    assert_eq!(registry.list().unwrap().len(), 2);
    assert_eq!(registry.local_names().unwrap().len(), 2);
    registry.remove_local_name(&key("p/a").project, None).unwrap();
    assert_eq!(registry.local_names().unwrap().len(), 1);
}

#[test]
fn a_name_has_one_session_and_is_free_once_it_is_retired() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(&dir);
    let first = registry.create(&key("p/a"), None, None).unwrap();
    assert!(matches!(registry.create(&key("p/a"), None, None), Err(RegistryError::Exists(_))));
    registry.retire(first.id).unwrap();
    let second = registry.create(&key("p/a"), None, None).unwrap();
    assert_ne!(first.id, second.id);
    assert!(matches!(registry.get(first.id), Err(RegistryError::NotFound(_))));
    assert!(matches!(registry.retire(first.id), Err(RegistryError::NotFound(_))));
    assert!(matches!(registry.set_lower(first.id, None), Err(RegistryError::NotFound(_))));
}

#[test]
fn directories_of_ended_sessions_are_deleted_and_others_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let (kept, ended, deleted) = {
        let registry = open(&dir);
        let [kept, ended, deleted] =
            ["p/a", "p/b", "p/c"].map(|k| registry.create(&key(k), None, None).unwrap());
        for record in [&kept, &ended, &deleted] {
            std::fs::create_dir_all(registry.directory(record.id).join("tree/x/y")).unwrap();
        }
        registry.retire(deleted.id).unwrap();
        registry.delete_files(deleted.id).unwrap();
        assert!(!registry.directory(deleted.id).exists());
        registry.retire(ended.id).unwrap();
        (kept, ended, deleted)
    };
    std::fs::create_dir(dir.path().join("sessions/not-ours")).unwrap();
    let registry = open(&dir);
    assert!(registry.directory(kept.id).join("tree/x/y").exists());
    assert!(!registry.directory(ended.id).exists());
    assert!(!registry.directory(deleted.id).exists());
    assert!(dir.path().join("sessions/not-ours").exists());
}

#[test]
fn a_damaged_database_is_an_error_that_says_what_to_do_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(&dir));
    let file = dir.path().join("state.db");
    std::fs::write(&file, vec![b'x'; 4096]).unwrap();
    let error = SessionRegistry::open(dir.path(), clock::system()).unwrap_err();
    assert!(matches!(error, RegistryError::Damaged { .. }), "{error:?}");
    assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
    assert!(error.to_string().contains("Restore it"), "{error}");
    assert_eq!(std::fs::read(&file).unwrap(), vec![b'x'; 4096]);
}
