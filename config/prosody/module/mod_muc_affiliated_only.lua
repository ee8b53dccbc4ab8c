-- mod_muc_affiliated_only, which comes with usher: "usher config prosody --module DIR" writes this file, and overwrites it.
--
-- It is the old name of mod_usher, and goes with the next release. In modules_enabled, write "usher" for it.
module:depends("usher");
