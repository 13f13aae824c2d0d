from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("core", "0015_backups")]

    operations = [
        migrations.CreateModel(
            name="Process",
            fields=[
                (
                    "identity",
                    models.CharField(
                        help_text="As core.ops.processes writes it.", max_length=200, primary_key=True, serialize=False
                    ),
                ),
                (
                    "role",
                    models.CharField(
                        choices=[("web", "Web"), ("worker", "Worker"), ("beat", "Scheduler")], max_length=10
                    ),
                ),
                (
                    "threads",
                    models.PositiveIntegerField(
                        help_text="How much it does at a time; empty: one thing.", null=True
                    ),
                ),
                ("version", models.CharField(max_length=30)),
                ("started_at", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="HealthChange",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("part", models.CharField(help_text="As core.ops.probes names it.", max_length=40)),
                (
                    "state",
                    models.CharField(
                        help_text="One of core.ops.probes.State; unknown: nobody looked.", max_length=10
                    ),
                ),
                ("detail", models.CharField(blank=True, max_length=300)),
                ("at", models.DateTimeField()),
            ],
            options={
                "indexes": [models.Index(fields=["part", "-at"], name="health_of_part")],
            },
        ),
    ]
