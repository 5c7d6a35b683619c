"""Where examples come from: folders, tables, hub repositories, named benchmarks and glyphs."""
