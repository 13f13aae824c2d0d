import django.db.models.deletion
from django.db import migrations, models


def give_breakers(apps, schema_editor):
    """Give every node that is there a breaker of its own; one that was down begins with nothing known of it."""
    CircuitBreaker = apps.get_model("core", "CircuitBreaker")
    for node in apps.get_model("agents", "Node").objects.filter(breaker=None):
        node.breaker, _ = CircuitBreaker.objects.get_or_create(name=f"node:{node.name}", defaults={"kind": "node"})
        node.save(update_fields=["breaker"])


class Migration(migrations.Migration):

    dependencies = [
        ('agents', '0005_pinned_context'),
        ('core', '0010_circuit_breakers'),
    ]

    operations = [
        migrations.AddField(
            model_name='node',
            name='saturated_until',
            field=models.DateTimeField(editable=False, help_text='It said that its queue is full; until then others are preferred.', null=True),
        ),
        migrations.AddField(
            model_name='node',
            name='breaker',
            field=models.OneToOneField(editable=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='node', to='core.circuitbreaker'),
        ),
        migrations.RunPython(give_breakers, migrations.RunPython.noop),
        migrations.AlterField(
            model_name='node',
            name='breaker',
            field=models.OneToOneField(editable=False, on_delete=django.db.models.deletion.PROTECT, related_name='node', to='core.circuitbreaker'),
        ),
    ]
