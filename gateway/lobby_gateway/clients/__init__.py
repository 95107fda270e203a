"""Client connections: admission, authentication, the message bus, and mailboxes."""
