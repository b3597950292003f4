mod agenda;
mod dead_letters;
mod lost;
