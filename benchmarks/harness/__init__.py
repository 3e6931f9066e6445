"""What the benchmarks share: contenders in processes of their own, tables, charts and dated results."""
