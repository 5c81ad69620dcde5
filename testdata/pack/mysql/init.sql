-- Run once, when the database is made. Each statement ends at the end of a line.
CREATE DATABASE pack;
USE pack;

CREATE TABLE ships (
  id INT PRIMARY KEY AUTO_INCREMENT,
  name VARCHAR(80) NOT NULL,
  yard VARCHAR(80) NOT NULL,
  launched DATE NOT NULL
);

INSERT INTO ships (name, yard, launched) VALUES
  ('Great Britain', 'Bristol', '1843-07-19'),
  ('Cutty Sark', 'Dumbarton', '1869-11-22'),
  ('Fram', 'Larvik', '1892-10-26'),
  ('Götheborg', 'Göteborg', '2003-06-06');

-- The application may read, from any container, and nothing else.
CREATE USER flask@'%' IDENTIFIED BY 'flask';
GRANT SELECT ON pack.* TO flask@'%';
