"""Everything that runs in a process of its own. No other room starts one."""
