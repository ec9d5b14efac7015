//! What the log promises, tried on disks that forget, fail and rot. Everything here runs without
//! threads, so that one seed is one history.

mod bounds;
mod crash;
mod damage;
mod every_place;
mod faults;
mod fixture;
mod full_disk;
mod fuzz;
mod inspect;
mod large;
mod lives;
mod moving;
mod names;
mod reads;
mod rules;
mod scrub;
pub(crate) mod sites;
pub(crate) mod space;
mod stats;
pub(crate) mod workload;
