"""What the core decides about instances, carried out: processes, holds, and their loads."""
