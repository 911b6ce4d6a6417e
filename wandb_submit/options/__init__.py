"""From what was typed or said in a template to a checked specification."""
