"""The sweep agent: what runs inside one array task. Light on purpose: it never imports `wandb`."""
