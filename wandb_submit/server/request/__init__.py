"""What a request is answered with and from: its body, its caller, its context, pages."""
