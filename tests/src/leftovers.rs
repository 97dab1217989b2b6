//! Labs whose owner was killed before it could take them down.
use crate::folder::{Folder, Record};
use crate::{Lab, LabError, LabName};

/// Takes down every lab that belongs to a process that is gone; answers their names.
///
/// # Errors
/// The first error; the others are tried all the same.
pub fn sweep() -> Result<Vec<LabName>, LabError> {
    let mut swept = Vec::new();
    let mut first_error = None;
    for (name, folder) in Folder::all() {
        if !folder.record().as_ref().is_some_and(Record::is_left_over) {
            continue;
        }
        match Lab::down(&name) {
            Ok(_) => swept.push(name),
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
    }
    first_error.map_or(Ok(swept), Err)
}
