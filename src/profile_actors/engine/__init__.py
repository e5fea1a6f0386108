"""The pure core: idents and slots, fold, windows, membership, and the partition that binds them."""
