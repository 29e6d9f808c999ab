"""Where to cut a model, and where to run the parts.

What a part takes (`profiling`, `profile`), where it may run (`tier`, `pricing`, `scenario`), what
is asked (`workload`) and what a release leaks (`option`, from records) become plans (`planner`),
which are simulated under load (`simulation`) and measured for real (`runtime`, `emulation`).
"""
