//! A controller that nodes refuse, for they obey one that came after it: it ends, and does not begin again by itself,
//! for a start takes over, and the two would take over from each other for ever.
//!
//! That is remembered in a file beside the journal, which may be the newer one's: there wholly or not at all, until
//! the journal knows of a higher authority. One that cannot be read is no leave to begin.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::model::{Epoch, Timestamp};

use super::core::Fatal;

/// Longest file that is read: a number and a newline.
const TEXT_MAX: u64 = 64;

/// The authority that nodes were seen to obey, if it is above all that the journal knows of. Where the newer
/// controller writes the same journal, its own authority is in there, and nothing stands in its way. One that no
/// controller can have is nobody's: earlier versions believed nodes that told of it.
pub(super) fn before(
    state: &Path,
    ours: Option<Epoch>,
    now: Timestamp,
) -> io::Result<Option<Epoch>> {
    let file = match File::open(place(state)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(TEXT_MAX).read_to_string(&mut text)?;
    let garbled = |_| io::Error::new(io::ErrorKind::InvalidData, "it holds no authority");
    let fence = Epoch(text.trim().parse().map_err(garbled)?);
    let ours = ours.unwrap_or(Epoch(0));
    Ok((fence > ours && fence.is_plausible(ours, now)).then_some(fence))
}

/// Remembers why the controller ends, if it was overtaken. Not in the journal: that may be the newer one's.
pub(super) fn remember(state: &Path, fatal: &Fatal) {
    let Fatal::Overtaken { fence, ours } = fatal else { return };
    tracing::error!(%fence, %ours, "another controller has taken over: this one ends, and changes nothing any more");
    if let Err(error) = write(state, *fence) {
        tracing::error!(%error, "that it was overtaken cannot be remembered: do not start it again");
    }
}

/// The journal knows of a higher authority now: the file tells of the past.
pub(super) fn forget(state: &Path) {
    let removed = match fs::remove_file(place(state)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Ok(()) => File::open(state).and_then(|it| it.sync_all()),
        Err(error) => Err(error),
    };
    if let Err(error) = removed {
        // Without harm: the journal is asked, too.
        tracing::warn!(%error, "that it was overtaken once cannot be forgotten");
    }
}

/// Where it is remembered.
pub(super) fn place(state: &Path) -> PathBuf {
    state.join("overtaken")
}

fn write(state: &Path, fence: Epoch) -> io::Result<()> {
    let aside = state.join("overtaken.new");
    let mut file = File::create(&aside)?;
    file.write_all(format!("{fence}\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(aside, place(state))?;
    File::open(state)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    #[test]
    fn it_is_remembered_until_the_journal_knows_of_a_higher_authority() {
        let dir = tempfile::tempdir().unwrap();
        let before = |ours: Option<u64>| before(dir.path(), ours.map(Epoch), NOW).unwrap();
        assert_eq!(before(Some(3)), None);
        remember(dir.path(), &Fatal::Journal("full".to_owned()));
        assert_eq!(before(Some(3)), None);
        remember(dir.path(), &Fatal::Overtaken { fence: Epoch(7), ours: Epoch(3) });
        assert_eq!(before(Some(3)), Some(Epoch(7)));
        assert_eq!(before(None), Some(Epoch(7)));
        assert_eq!(before(Some(7)), None);
        forget(dir.path());
        assert_eq!(before(None), None);
        forget(dir.path());
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn what_cannot_be_read_is_no_leave_to_begin_and_what_cannot_be_is_nobodys() {
        let dir = tempfile::tempdir().unwrap();
        let says = |text: &[u8]| {
            fs::write(place(dir.path()), text).unwrap();
            before(dir.path(), Some(Epoch(3)), NOW)
        };
        for torn in [&b""[..], b"\n", b"7x", b"-7", b"\xff\xfe", &[b'7'; 100]] {
            assert!(says(torn).is_err(), "{torn:?}");
        }
        assert_eq!(says(b"7\n").unwrap(), Some(Epoch(7)));
        assert_eq!(says(b"18446744073709551615\n").unwrap(), None);
        fs::remove_file(place(dir.path())).unwrap();
        fs::create_dir(place(dir.path())).unwrap();
        assert!(before(dir.path(), None, NOW).is_err());
    }
}
