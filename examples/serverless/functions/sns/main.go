// Sns is a function of AWS Lambda for a topic of SNS, and nothing else: it links no
// client of AWS.
package main

import (
	"errors"
	"log"

	"github.com/fogfish/swarm/broker/sns"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/listen"
)

type (
	note struct {
		Text string `json:"text"`
	}
	user struct {
		Name string `json:"name"`
	}
	signUp = swarm.Event[swarm.Meta, user]
)

func main() {
	q := swarm.Must(sns.Listener().Build(""))

	notes, noteAck := listen.Typed[note](q, listen.Category("Note"))
	go func() {
		for msg := range notes {
			if msg.Object.Text == "" {
				noteAck <- msg.Fail(errors.New("the note is empty"))
				continue
			}
			log.Println("note", msg.Object.Text)
			noteAck <- msg
		}
	}()
	signUps, signUpAck := listen.Event[signUp](q, listen.Category("User"))
	go func() {
		for msg := range signUps {
			log.Println("sign-up", msg.ID)
			signUpAck <- msg
		}
	}()
	images, imageAck := listen.Bytes(q, codec.Bytes("Image"))
	go func() {
		for msg := range images {
			log.Println("image", len(msg.Object))
			imageAck <- msg
		}
	}()

	if err := q.Await(); err != nil {
		log.Fatal(err)
	}
}
