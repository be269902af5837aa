"""From records to what has to be written: what is asked for, what is known, what is fetched."""
