//! One file per job kind; the file name is the kind.
