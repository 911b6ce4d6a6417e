"""What the server keeps: tables, transactions, and the forms of values."""
