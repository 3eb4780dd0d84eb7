enum Never {}
