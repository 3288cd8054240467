from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("runs", "0014_resumed_from")]

    operations = [
        migrations.AddField("run", "estimated_seconds", models.FloatField(blank=True, null=True)),
        migrations.AddField("run", "estimated_on", models.CharField(blank=True, max_length=20)),
    ]
