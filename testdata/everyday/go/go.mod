module example.com/server

go 1.25

require example.com/private/lib v1.4.0
