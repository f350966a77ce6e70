//! What is to be downloaded of a repository at one commit.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{DownloadError, file_names, selection};

/// The chosen files of a repository at one commit. All names stay inside the directory that they are put in.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    pub(super) commit: String,
    /// In the order in which they are to be brought.
    pub(super) files: Vec<Listed>,
}

/// A file, as far as the listing says.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Listed {
    #[serde(rename = "rfilename")]
    pub(super) name: String,
    #[serde(default)]
    pub(super) size: Option<u64>,
    #[serde(default, rename = "blobId")]
    pub(super) blob: Option<String>,
    #[serde(default)]
    pub(super) lfs: Option<Lfs>,
}

/// The description of a file that lies in the large file storage.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Lfs {
    #[serde(alias = "oid")]
    sha256: Option<String>,
    size: Option<u64>,
}

/// A file of which all is known that a download needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HubFile {
    pub(super) name: String,
    pub(super) size: u64,
    /// Name of its contents in the cache: what the hub calls them.
    pub(super) blob: String,
}

/// The hub's answer.
#[derive(Deserialize)]
struct RepositoryInfo {
    sha: String,
    siblings: Vec<Listed>,
}

impl Listing {
    /// Reads the hub's answer, which may be long, and chooses from it: those of `wanted`, or all that loading needs.
    ///
    /// # Errors
    ///
    /// [`DownloadError::Unavailable`] when it cannot be understood, [`DownloadError::Unusable`] when a name
    /// would lead out of its directory, and as [`selection::choose`].
    pub(super) fn read(body: &[u8], wanted: &[String]) -> Result<Self, DownloadError> {
        let info: RepositoryInfo = serde_json::from_slice(body).map_err(|error| {
            DownloadError::Unavailable(format!(
                "the hub's list of files cannot be understood: {error}"
            ))
        })?;
        if !file_names::is_commit(&info.sha) {
            return Err(DownloadError::Unavailable(
                "the hub does not tell which commit it lists".to_owned(),
            ));
        }
        let hostile = |file: &&Listed| !file_names::is_inside(&file.name);
        if let Some(file) = info.siblings.iter().find(hostile) {
            return Err(DownloadError::Unusable(format!(
                "the repository has a file whose name leads out of it ({:?}); nothing of it is used",
                file.name.chars().take(100).collect::<String>()
            )));
        }
        let listed = info.siblings.into_iter();
        let mut listed: BTreeMap<String, Listed> =
            listed.map(|file| (file.name.clone(), file)).collect();
        let names = listed.keys().map(String::as_str).collect();
        let chosen = selection::choose(&names, wanted)?;
        Ok(Self {
            commit: info.sha,
            files: chosen
                .iter()
                .filter_map(|name| listed.remove(name))
                .collect(),
        })
    }
}

impl Listed {
    /// The file, if the listing says enough of it.
    pub(super) fn described(&self) -> Option<HubFile> {
        let lfs = self.lfs.as_ref();
        let sha256 = lfs
            .and_then(|lfs| lfs.sha256.as_ref())
            .filter(|digest| file_names::is_sha256(digest));
        let blob = self
            .blob
            .as_ref()
            .filter(|blob| file_names::is_blob_name(blob));
        Some(HubFile {
            name: self.name.clone(),
            size: lfs.and_then(|lfs| lfs.size).or(self.size)?,
            blob: match lfs {
                Some(_) => sha256?.clone(),
                None => blob?.clone(),
            },
        })
    }
}

impl HubFile {
    /// The SHA-256 digest of the contents, where the hub gives it.
    pub(super) fn sha256(&self) -> Option<&str> {
        Some(self.blob.as_str()).filter(|blob| file_names::is_sha256(blob))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &str) -> Result<Listing, DownloadError> {
        let sha = "a".repeat(40);
        let body = format!(r#"{{"sha": "{sha}", "siblings": [{file}]}}"#);
        Listing::read(body.as_bytes(), &["m".to_owned()])
    }

    fn described(file: &str) -> Option<HubFile> {
        read(file).unwrap().files[0].described()
    }

    #[bounded::test]
    fn sizes_and_digests_are_read_where_they_are_given() {
        let digest = "b".repeat(64);
        let lfs = format!(
            r#"{{"rfilename": "m", "size": 9, "blobId": "c", "lfs": {{"sha256": "{digest}", "size": 9, "pointerSize": 1}}}}"#
        );
        let file = described(&lfs).unwrap();
        assert_eq!((file.size, file.sha256()), (9, Some(digest.as_str())));
        let file = described(r#"{"rfilename": "m", "size": 9, "blobId": "c"}"#).unwrap();
        assert_eq!(
            (file.size, file.blob.as_str(), file.sha256()),
            (9, "c", None)
        );
        assert_eq!(described(r#"{"rfilename": "m"}"#), None);
        let evil = r#"{"rfilename": "m", "size": 1, "blobId": "../../x"}"#;
        assert_eq!(described(evil), None);
    }

    #[bounded::test]
    fn a_listing_with_a_name_that_leads_out_is_refused_as_a_whole() {
        let error = read(r#"{"rfilename": "../../.ssh/authorized_keys"}"#).unwrap_err();
        assert!(matches!(error, DownloadError::Unusable(_)), "{error:?}");
        let error = Listing::read(br#"{"sha": "../..", "siblings": []}"#, &[]).unwrap_err();
        assert!(error.is_transient(), "{error:?}");
        assert!(Listing::read(b"<html>", &[]).unwrap_err().is_transient());
    }
}
