"""Built-in tasks, one file each; `stdlib/tasks.mi` declares what each makes."""
