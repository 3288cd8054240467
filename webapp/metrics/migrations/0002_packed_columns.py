"""Points and buckets move from a row each into columns, many to a row; views take the place of the old tables."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models

OPEN = 2**63 - 1
CHUNK_POINTS = 80
ROLLUP_BUCKETS = 36

# Open rows are replaced time and again, full ones never: they live apart, the open ones with room beside them for
# their next version, so that the index need not follow and the full ones stay densely packed.
APART = """
CREATE TABLE {table}_full PARTITION OF {table} DEFAULT;
CREATE TABLE {table}_open PARTITION OF {table} FOR VALUES IN ({open})
    WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
"""
CHUNK = """
CREATE TABLE metric_chunk (
    series_id integer NOT NULL,
    last_step bigint NOT NULL,
    steps bigint[] NOT NULL,
    walls timestamptz[] NOT NULL,
    "values" float8[] NOT NULL,
    PRIMARY KEY (series_id, last_step)
) PARTITION BY LIST (last_step);
""" + APART.format(table="metric_chunk", open=OPEN)
ROLLUP = """
CREATE TABLE metric_rollup (
    series_id integer NOT NULL,
    level smallint NOT NULL,
    last bigint NOT NULL,
    buckets bigint[] NOT NULL,
    finite integer[] NOT NULL,
    not_finite integer[] NOT NULL,
    vmin float8[] NOT NULL,
    vmax float8[] NOT NULL,
    vsum float8[] NOT NULL,
    wlast timestamptz[] NOT NULL,
    PRIMARY KEY (series_id, level, last)
) PARTITION BY LIST (last);
""" + APART.format(table="metric_rollup", open=OPEN)
# A bucket was made of eight of the level below; now it is made of two.
PACK = f"""
INSERT INTO metric_chunk (series_id, last_step, steps, walls, values)
SELECT series_id, CASE WHEN count(*) = {CHUNK_POINTS} THEN max(step) ELSE {OPEN} END,
    array_agg(step ORDER BY step), array_agg(wall ORDER BY step), array_agg(value ORDER BY step)
FROM (
    SELECT *, (row_number() OVER (PARTITION BY series_id ORDER BY step) - 1) / {CHUNK_POINTS} AS place
    FROM metric_point
) numbered
GROUP BY series_id, place;
INSERT INTO metric_rollup (series_id, level, last, buckets, finite, not_finite, vmin, vmax, vsum, wlast)
SELECT series_id, level, CASE WHEN count(*) = {ROLLUP_BUCKETS} THEN max(bucket) ELSE {OPEN} END,
    array_agg(bucket ORDER BY bucket), array_agg(finite ORDER BY bucket), array_agg(not_finite ORDER BY bucket),
    array_agg(coalesce(vmin, 'NaN') ORDER BY bucket), array_agg(coalesce(vmax, 'NaN') ORDER BY bucket),
    array_agg(vsum ORDER BY bucket), array_agg(wlast ORDER BY bucket)
FROM (
    SELECT *, (row_number() OVER (PARTITION BY series_id, level ORDER BY bucket) - 1) / {ROLLUP_BUCKETS} AS place
    FROM (
        SELECT b.series_id, 3 * b.level - 2 + finer AS level, b.bucket >> finer AS bucket, sum(b.finite)::int AS finite,
            sum(b.not_finite)::int AS not_finite, min(b.vmin) AS vmin, max(b.vmax) AS vmax, sum(b.vsum) AS vsum,
            max(b.wlast) AS wlast
        FROM metric_bucket b JOIN metric_series s ON s.id = b.series_id CROSS JOIN generate_series(0, 2) AS finer
        WHERE b.bucket >> finer < s.last_step >> (s.shift + 3 * b.level + finer)
        GROUP BY 1, 2, 3
    ) doubled
) numbered
GROUP BY series_id, level, place;
"""  # noqa: S608 - built from our own constants
REPLACE = """
DROP TABLE metric_point;
DROP TABLE metric_bucket;
CREATE VIEW metric_point AS
    SELECT series_id, unnest(steps) AS step, unnest(walls) AS wall, unnest(values) AS value FROM metric_chunk;
CREATE VIEW metric_bucket AS
    SELECT series_id, level, bucket, finite, not_finite, nullif(low, 'NaN') AS vmin, nullif(high, 'NaN') AS vmax, vsum,
        wlast
    FROM (
        SELECT series_id, level, unnest(buckets) AS bucket, unnest(finite) AS finite, unnest(not_finite) AS not_finite,
            unnest(vmin) AS low, unnest(vmax) AS high, unnest(vsum) AS vsum, unnest(wlast) AS wlast
        FROM metric_rollup
    ) packed;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("metrics", "0001_initial"),
    ]

    operations = [
        migrations.RunSQL(
            CHUNK,
            state_operations=[
                migrations.CreateModel(
                    name="MetricChunk",
                    fields=[
                        (
                            "pk",
                            models.CompositePrimaryKey(
                                "series", "last_step", blank=True, editable=False, primary_key=True, serialize=False
                            ),
                        ),
                        ("last_step", models.BigIntegerField()),
                        (
                            "steps",
                            django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), size=None),
                        ),
                        (
                            "walls",
                            django.contrib.postgres.fields.ArrayField(base_field=models.DateTimeField(), size=None),
                        ),
                        (
                            "values",
                            django.contrib.postgres.fields.ArrayField(base_field=models.FloatField(), size=None),
                        ),
                        (
                            "series",
                            models.ForeignKey(
                                db_constraint=False,
                                db_index=False,
                                on_delete=django.db.models.deletion.CASCADE,
                                related_name="chunks",
                                to="metrics.metricseries",
                            ),
                        ),
                    ],
                    options={
                        "db_table": "metric_chunk",
                    },
                ),
            ],
        ),
        migrations.RunSQL(
            ROLLUP,
            state_operations=[
                migrations.CreateModel(
                    name="MetricRollup",
                    fields=[
                        (
                            "pk",
                            models.CompositePrimaryKey(
                                "series", "level", "last", blank=True, editable=False, primary_key=True, serialize=False
                            ),
                        ),
                        ("level", models.SmallIntegerField()),
                        ("last", models.BigIntegerField()),
                        (
                            "buckets",
                            django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), size=None),
                        ),
                        (
                            "finite",
                            django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), size=None),
                        ),
                        (
                            "not_finite",
                            django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), size=None),
                        ),
                        ("vmin", django.contrib.postgres.fields.ArrayField(base_field=models.FloatField(), size=None)),
                        ("vmax", django.contrib.postgres.fields.ArrayField(base_field=models.FloatField(), size=None)),
                        ("vsum", django.contrib.postgres.fields.ArrayField(base_field=models.FloatField(), size=None)),
                        (
                            "wlast",
                            django.contrib.postgres.fields.ArrayField(base_field=models.DateTimeField(), size=None),
                        ),
                        (
                            "series",
                            models.ForeignKey(
                                db_constraint=False,
                                db_index=False,
                                on_delete=django.db.models.deletion.CASCADE,
                                related_name="rollups",
                                to="metrics.metricseries",
                            ),
                        ),
                    ],
                    options={
                        "db_table": "metric_rollup",
                    },
                ),
            ],
        ),
        migrations.RunSQL(PACK),
        migrations.RunSQL(
            REPLACE,
            state_operations=[
                migrations.AlterModelOptions(name="metricpoint", options={"managed": False}),
                migrations.AlterModelOptions(name="metricbucket", options={"managed": False}),
            ],
        ),
    ]
