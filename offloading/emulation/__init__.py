"""Links of a scenario between processes of one machine, and how well they are imitated."""
