"""The leaderboard as files: CSV, Markdown and one self-contained HTML page, from boards alone."""
