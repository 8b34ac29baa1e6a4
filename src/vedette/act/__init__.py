"""What is done about it: alerts, cases, playbooks and their actions.

Signals that belong together become one alert; people work on alerts in cases; a playbook answers an alert step by step,
durably, and waits for a person where the answer is drastic. Everything here is walled by tenant.
"""
