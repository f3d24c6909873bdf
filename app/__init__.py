"""How people reach the planner: web pages, REST, command line, jobs."""
