module relbuild.example/calends

go 1.21
