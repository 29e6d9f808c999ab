"""Plans run for real, over imitated links, and compared with what was predicted of them."""
