from safespan.results import SCHEMAS, RunFolder, write_table
from safespan.stages import Stages


def test_a_stage_whose_table_lacks_a_column_of_today_is_done_again(tmp_path):
    run, done = RunFolder(tmp_path), []
    schema = SCHEMAS["spectra"]
    earlier = {name: kind for name, kind in schema.items() if name != "module"}

    def stage(columns):
        def work():
            write_table(run.table("spectra"), [], columns)
            done.append(len(columns))

        Stages(run, ["update overlap"]).stage("update overlap", "key", [run.table("spectra")], work)

    stage(earlier)
    stage(schema)
    stage(schema)
    assert done == [len(schema) - 1, len(schema)]
